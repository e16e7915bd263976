"""Generated clicks: the same whatever is asked for, and drawn from the probability beside them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from weiml.data import BestScores, ClickGenerator, ClicksConfig, fetch
from weiml.data.datasets.clicks import CATEGORIES, NUMBERS
from weiml.errors import ConfigError

ROWS = 60_000
GENERATOR = ClickGenerator(ClicksConfig(rows=ROWS, seed=5))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return GENERATOR.examples(0, ROWS)


@given(st.integers(0, ROWS), st.integers(0, 300))
def test_an_example_depends_on_its_number_alone(start: int, count: int) -> None:
    stop = min(start + count, ROWS)
    around = GENERATOR.examples(max(start - 7, 0), stop)
    alone = GENERATOR.examples(start, stop)
    assert alone.equals(around.slice(start - max(start - 7, 0)))
    np.testing.assert_array_equal(
        GENERATOR.probabilities(start, stop), alone["probability"].to_numpy()
    )


def test_blocks_join_to_the_whole(table: pa.Table) -> None:
    for threads in (1, 3):
        blocks = list(GENERATOR.blocks(rows_per_block=7_000, threads=threads))
        assert pa.concat_tables(blocks).equals(table)


def test_the_seed_decides(table: pa.Table) -> None:
    other = ClickGenerator(ClicksConfig(rows=ROWS, seed=6)).examples(0, ROWS)
    again = ClickGenerator(ClicksConfig(rows=ROWS, seed=5)).examples(0, ROWS)
    assert again.equals(table)
    assert not any(other[name].equals(table[name]) for name in (*NUMBERS, *CATEGORIES, "label"))


def test_labels_follow_the_probabilities(table: pa.Table) -> None:
    p, y = table["probability"].to_numpy(), table["label"].to_numpy()
    assert y.mean() == pytest.approx(0.25, abs=0.01)
    for part in np.array_split(np.argsort(p), 10):
        spread = np.sqrt(np.sum(p[part] * (1 - p[part]))) / part.size
        assert abs(y[part].mean() - p[part].mean()) < 4 * spread


def test_the_best_scores_are_those_of_the_true_probabilities(table: pa.Table) -> None:
    p, y = table["probability"].to_numpy(), table["label"].to_numpy()
    best, rest = BestScores(), BestScores()
    best.add(p[:10_000])
    rest.add(p[10_000:])
    best.merge(rest)
    assert best.examples == ROWS
    assert best.click_rate == pytest.approx(p.mean())
    assert best.log_loss == pytest.approx(log_loss(y, p), abs=0.005)
    assert best.auc == pytest.approx(roc_auc_score(y, p), abs=0.006)
    # Exactly: every example twice, weighted by how likely it is to be a click or none.
    labels, weights = np.repeat([1, 0], ROWS), np.concatenate([p, 1 - p])
    twice = np.concatenate([p, p])
    assert best.log_loss == pytest.approx(log_loss(labels, twice, sample_weight=weights), rel=1e-9)
    assert best.auc == pytest.approx(roc_auc_score(labels, twice, sample_weight=weights), abs=1e-5)


def test_the_shape_is_that_of_criteo(table: pa.Table) -> None:
    assert table.schema.names[:40] == ["label", *NUMBERS, *CATEGORIES]
    for name, missing in (("I1", 0.45), ("I12", 0.765), ("C22", 0.76), ("C3", 0.034), ("C1", 0)):
        assert table[name].null_count / ROWS == pytest.approx(missing, abs=0.01)
    heavy = table["I5"].drop_null().to_numpy()
    assert heavy.max() > 50 * np.median(heavy)
    distinct = {name: len(pc.unique(table[name].drop_null())) for name in CATEGORIES}
    assert distinct["C9"] == 10
    assert distinct["C3"] > 10_000
    assert pc.all(pc.match_substring_regex(table["C3"].drop_null(), "^[0-9a-f]{8}$")).as_py()
    counts = np.sort(pc.value_counts(table["C3"]).field("counts").to_numpy())[::-1]
    assert counts[:20].sum() > 0.05 * ROWS, "a few ids are popular"


def test_pairs_and_time_matter(table: pa.Table) -> None:
    """Within one value of C14 the click rate still moves with C9, and by day."""
    p = table["probability"].to_numpy()
    days = (table["timestamp"].to_numpy() - table["timestamp"][0].as_py()) // 86_400
    assert set(days) == set(range(7))
    assert (np.diff(table["timestamp"].to_numpy()) >= 0).all()
    frame = table.select(["C9", "C14"]).to_pandas().assign(logit=np.log(p / (1 - p)), day=days)
    means = frame.groupby(["C14", "C9"]).logit.agg(["mean", "count"])
    means = means[means["count"] > 200]["mean"].unstack().dropna(thresh=2)
    interaction = means.sub(means.mean(axis=1), axis=0)
    interaction = interaction.sub(interaction.mean(axis=0), axis=1)
    assert interaction.stack().std() > 0.15
    by_day = frame.groupby(["C14", "day"]).logit.mean().unstack().dropna()
    drift = by_day[6] - by_day[0]
    assert drift.std() > 0.1


def test_it_is_a_registered_data_set(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = fetch("synthetic-criteo:rows=70000,seed=5,days=2", tmp_path)
    written = pq.read_table(folder / "examples.parquet")
    config = ClicksConfig(rows=70_000, seed=5, days=2)
    assert written.equals(ClickGenerator(config).examples(0, 70_000))


@pytest.mark.parametrize("given", [{"rows": 0}, {"days": 0}, {"seed": -1}, {"click_rate": 1.0}])
def test_what_cannot_be_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        ClicksConfig(**given)  # type: ignore[arg-type]


def test_only_configured_examples_are_made() -> None:
    with pytest.raises(ConfigError, match="raise rows"):
        GENERATOR.examples(0, ROWS + 1)
