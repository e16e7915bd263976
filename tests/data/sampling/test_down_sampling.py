from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from weiml.data.sampling import (
    DownSampling,
    RowCounts,
    correct_predictions,
    down_sample,
    rate_for,
)
from weiml.errors import ConfigError, DataError


def clicks(rng: np.random.Generator, n: int = 60_000) -> tuple[pa.Table, np.ndarray]:
    X = rng.normal(size=(n, 3))
    logit = X @ [1.0, -0.7, 0.4] - 4.0
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return pa.table({"id": np.arange(n), "label": y, "row": np.arange(n)}), X


def test_all_positives_stay_and_negatives_at_the_rate(rng: np.random.Generator) -> None:
    table, _ = clicks(rng)
    positives = int(np.sum(table["label"]))
    rate = rate_for(positives, table.num_rows - positives, 0.1)
    counts = RowCounts()
    kept = down_sample(table, DownSampling(id=("id",), rate=rate), counts=counts)
    assert np.sum(kept["label"]) == positives
    assert abs(np.mean(kept["label"]) - 0.1) < 0.01
    assert counts.kept == kept.num_rows
    assert counts.removed["negatives not drawn"] == table.num_rows - kept.num_rows
    assert (np.diff(kept["row"]) > 0).all()


def test_the_draw_depends_on_id_and_seed_alone(rng: np.random.Generator) -> None:
    table, _ = clicks(rng, 5000)
    config = DownSampling(id=("id",), rate=0.2)
    whole = down_sample(table, config)["id"].to_pylist()
    shuffled = table.take(pa.array(rng.permutation(table.num_rows)))
    parts = [down_sample(shuffled.slice(i, 700), config) for i in range(0, 5000, 700)]
    assert sorted(pa.concat_tables(parts)["id"].to_pylist()) == whole
    other = DownSampling(id=("id",), rate=0.2, seed=1)
    assert down_sample(table, other)["id"].to_pylist() != whole
    text = table.set_column(0, "id", table["id"].cast(pa.string()))
    assert [int(x) for x in down_sample(text, config)["id"].to_pylist()] == whole


def test_the_correction_restores_the_mean_prediction_and_leaves_the_auc(
    rng: np.random.Generator,
) -> None:
    table, X = clicks(rng)
    config = DownSampling(id=("id",), rate=0.1, weight="weight")
    kept = down_sample(table, config)
    rows, y = np.asarray(kept["row"]), np.asarray(kept["label"])
    truth = np.asarray(table["label"])
    model = LogisticRegression(C=1e6).fit(X[rows], y)
    raw = model.predict_proba(X)[:, 1]
    corrected = correct_predictions(raw, config.rate)
    assert raw.mean() > 3 * truth.mean()
    np.testing.assert_allclose(corrected.mean(), truth.mean(), rtol=0.06)
    assert roc_auc_score(truth, corrected) == roc_auc_score(truth, raw)
    weighted = LogisticRegression(C=1e6).fit(X[rows], y, np.asarray(kept["weight"]))
    np.testing.assert_allclose(weighted.predict_proba(X)[:, 1].mean(), truth.mean(), rtol=0.06)


def test_the_correction_undoes_the_change_of_odds() -> None:
    p = np.array([0.0, 0.001, 0.3, 1.0])
    sampled = p / (p + 0.05 * (1 - p))
    np.testing.assert_allclose(correct_predictions(sampled, 0.05), p)
    np.testing.assert_allclose(correct_predictions(p, 1.0), p)


def test_weights_that_are_there_are_multiplied() -> None:
    table = pa.table({"id": [1, 2], "label": [1, 0], "w": pa.array([2.0, 3.0], pa.float32())})
    config = DownSampling(id=("id",), rate=1.0, weight="w")
    assert down_sample(table, config) == table
    half = DownSampling(id=("id",), rate=0.999999, weight="w")
    np.testing.assert_allclose(down_sample(table, half)["w"], [2.0, 3.0], rtol=1e-5)
    with pytest.raises(DataError, match="nulls"):
        down_sample(table.set_column(2, "w", pa.array([None, 1.0])), config)


def test_wrong_rates_and_shares_are_told() -> None:
    assert rate_for(50, 50, 0.1) == 1.0
    for share in (0.0, 1.0):
        with pytest.raises(ConfigError, match="positive_share"):
            rate_for(1, 1, share)
    with pytest.raises(DataError, match="no rate"):
        rate_for(0, 10, 0.1)
    for rate in (0.0, 1.5):
        with pytest.raises(ConfigError, match="rate"):
            DownSampling(id=("id",), rate=rate)
        with pytest.raises(ConfigError, match="rate"):
            correct_predictions(0.5, rate)
    with pytest.raises(ConfigError, match="id"):
        DownSampling(id=(), rate=0.5)
    with pytest.raises(DataError, match="no key column 'i'"):
        down_sample(pa.table({"label": [0]}), DownSampling(id=("i",), rate=0.5))
