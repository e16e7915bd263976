"""Parts in any cut and order give what all at once gives; cells are near, within their bound."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.metrics.conftest import Example, columns, examples, made
from weiml.errors import DataError
from weiml.models import metrics
from weiml.models.metrics import MetricsAccumulator


@given(examples, st.lists(st.integers(0, 60), max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_any_cut_and_order_of_merges_gives_the_same(
    rows: list[Example], cuts: list[int], random: st.DrawFn
) -> None:
    labels, scores, groups, weights = columns(rows)
    whole = MetricsAccumulator(k=3)
    whole.add(labels, scores, groups, weights)
    parts = []
    for at in np.split(np.arange(len(labels)), sorted(min(c, len(labels)) for c in cuts)):
        part = MetricsAccumulator(k=3)
        part.add(labels[at], scores[at], groups[at], weights[at])
        parts.append(pickle.loads(pickle.dumps(part)))
    while len(parts) > 1:  # merge any two, a tree of any shape
        random.shuffle(parts)  # type: ignore[attr-defined]
        parts[0].merge(parts.pop())
    expected, found = whole.result(), parts[0].result()
    assert list(found) == list(expected)
    for name, value in expected.items():
        # An error of exactly 0 is the root of a rounding error.
        close = 1e-7 if name.endswith("_se") else 1e-11 if "ne" in name or name == "rce" else 1e-12
        assert found[name] == pytest.approx(value, rel=close, abs=close, nan_ok=True), name


def test_unit_weights_give_the_same_bits(rng: np.random.Generator) -> None:
    labels, scores, groups, _ = made(rng, 2000)
    whole, merged = MetricsAccumulator(), MetricsAccumulator()
    whole.add(labels, scores, groups)
    for at in np.array_split(rng.permutation(2000), 7):
        part = MetricsAccumulator()
        part.add(labels[at], scores[at], groups[at])
        part.merge(merged)
        merged = part
    mine, others = merged.result(), whole.result()
    for name in ("auc", "auc_se", "ece_equal_mass", "gauc", "ndcg_at_10", "mrr"):
        assert mine[name] == others[name], name


def test_many_parts_are_compacted(rng: np.random.Generator) -> None:
    seen = MetricsAccumulator()
    labels, scores, groups, weights = made(rng, 30_000)
    for _ in range(12):
        seen.add(labels, scores, groups, weights)
    assert len(pickle.dumps(seen)) < 2e6  # 100 distinct scores and 5,000 of groups, not 360,000
    once = metrics.evaluate_scores(labels, scores, groups, weights)
    result = seen.result()
    for name in ("auc", "gauc", "log_loss", "ne", "recalibrated_ne", "ece"):
        assert result[name] == pytest.approx(once[name], abs=1e-12)
    assert result["log_loss_se"] == pytest.approx(once["log_loss_se"] / math.sqrt(12), rel=1e-3)


def test_whole_groups_need_sums_only(rng: np.random.Generator) -> None:
    labels, scores, groups, weights = made(rng, 2000)
    order = np.argsort(groups, kind="stable")
    expected = metrics.evaluate_scores(labels, scores, groups, weights)
    parts = [MetricsAccumulator(whole_groups=True) for _ in range(3)]
    for number, group in enumerate(np.unique(groups)):
        at = order[groups[order] == group]
        parts[number % 3].add(labels[at], scores[at], groups[at], weights[at])
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    result = parts[2].result()
    assert list(result) == list(expected)
    for name in expected:
        assert result[name] == pytest.approx(expected[name], rel=1e-9), name


@pytest.mark.parametrize("cells", [64, 1 << 16])
def test_cells_stay_within_their_bound(cells: int, rng: np.random.Generator) -> None:
    scores = (1 / (1 + np.exp(4 - 2 * rng.standard_normal(30_000)))).astype(np.float32)
    labels = (rng.random(30_000) < scores).astype(np.float32)
    parts = [MetricsAccumulator(score_cells=cells) for _ in range(3)]
    for at, part in zip(np.array_split(np.arange(30_000), 3), parts, strict=True):
        part.add(labels[at], scores[at])
    parts[0].merge(parts[2])
    parts[0].merge(parts[1])
    found, exact = parts[0].result(), metrics.evaluate_scores(labels, scores)
    assert abs(found["auc"] - exact["auc"]) <= found["auc_bound"]
    assert found["auc_bound"] < (0.05 if cells == 64 else 1e-4)
    for name in ("log_loss", "ne", "calibration_ratio", "ne_se"):
        assert found[name] == pytest.approx(exact[name], rel=1e-9)
    near = 0.02 if cells == 64 else 1e-4
    for name in ("recalibrated_ne", "ece", "ece_equal_mass", "auc_se"):
        assert found[name] == pytest.approx(exact[name], abs=near), name


def test_few_examples_in_cells_have_the_errors_of_few() -> None:
    labels, scores = np.array([0, 1, 0, 1, 1, 0]), np.array([0.1, 0.3, 0.35, 0.5, 0.4, 0.2])
    parts = [MetricsAccumulator(score_cells=1 << 16) for _ in range(2)]
    parts[0].add(labels[:3], scores[:3])
    parts[1].add(labels[3:], scores[3:])
    parts[0].merge(parts[1])
    found, exact = parts[0].result(), metrics.evaluate_scores(labels, scores)
    for name in ("auc", "auc_se", "ece_se", "recalibrated_ne_se"):
        assert found[name] == pytest.approx(exact[name], rel=1e-3), name


def test_streams_without_an_end_take_no_more_room(rng: np.random.Generator) -> None:
    for settings_, groups in (({}, None), ({"whole_groups": True}, np.arange(1000) // 5)):
        seen = MetricsAccumulator(score_cells=64, **settings_)
        sizes = []
        for _ in range(3):
            scores = rng.random(1000)
            seen.add(rng.integers(0, 2, 1000), scores, groups)
            sizes.append(len(pickle.dumps(seen)))
        assert max(sizes) < 8000


def test_scores_at_the_ends_share_the_outermost_cells() -> None:
    seen = MetricsAccumulator(score_cells=1 << 10)
    seen.add(np.array([0, 0, 1, 1]), np.array([0.0, 1e-30, 1.0, 0.5]))
    assert seen.result()["auc"] == 1.0


def test_bad_input_is_refused_and_leaves_nothing() -> None:
    seen = MetricsAccumulator()
    two = np.array([0.0, 1.0])
    for labels, scores, groups, weights, message in (
        (two, two[:1], None, None, r"scores must be as long as labels \(2\), got 1"),
        (two, two, np.array([1]), None, r"groups must be as long as labels \(2\), got 1"),
        (two, two, None, two[:1], r"weights must be as long as labels \(2\), got 1"),
        (two, two, np.array(["a", "b"]), None, "groups must be integers"),
        (two, two + 0.5, None, None, "probabilities"),
        (two * 2, two, None, None, "labels must lie"),
        (two, two, None, -two, "weights"),
    ):
        with pytest.raises(DataError, match=message):
            seen.add(labels, scores, groups, weights)
    assert seen.examples == 0
    assert math.isnan(seen.result()["auc"])
    with pytest.raises(DataError, match="different settings do not merge"):
        seen.merge(MetricsAccumulator(k=5))
    with pytest.raises(DataError, match="score_cells must be at least 1, got 0"):
        MetricsAccumulator(score_cells=0)


def test_groups_of_other_integer_types_are_the_same_groups(rng: np.random.Generator) -> None:
    labels, scores, groups, _ = made(rng)
    large = groups.astype(np.uint64) + np.uint64(2**63)
    mixed = MetricsAccumulator()
    mixed.add(labels[:100], scores[:100], large[:100])
    mixed.add(labels[100:], scores[100:], large[100:].astype(np.int64))
    expected = metrics.evaluate_scores(labels, scores, large)
    assert mixed.result()["gauc"] == expected["gauc"]
