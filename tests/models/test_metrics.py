"""Metrics against scikit-learn on known answers and random data with ties, one-class groups."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import calibration
from sklearn import metrics as reference

from weiml.errors import DataError
from weiml.models import metrics

Example = tuple[int, float, int, float]

examples = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([0.0, 0.1, 0.25, 0.25000001, 0.5, 0.75, 0.9, 1.0]),
        st.integers(0, 4),
        st.floats(0.125, 8.0),
    ),
    min_size=1,
    max_size=60,
)


def columns(rows: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    labels, scores, groups, weights = zip(*rows, strict=True)
    return np.array(labels), np.array(scores), np.array(groups), np.array(weights)


def reference_gauc(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> float:
    total = mass = 0.0
    for group in np.unique(groups):
        mine = groups == group
        if len(np.unique(labels[mine])) == 2:
            value = reference.roc_auc_score(labels[mine], scores[mine], sample_weight=weights[mine])
            total += value * weights[mine].sum()
            mass += weights[mine].sum()
    return total / mass if mass else math.nan


def reference_ndcg(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int) -> float:
    values = [
        reference.ndcg_score(labels[mine][None], scores[mine][None], k=k)
        for mine in (groups == group for group in np.unique(groups))
        if mine.sum() > 1 and labels[mine].any()
    ]
    return float(np.mean(values)) if values else math.nan


@given(examples)
@settings(deadline=None, max_examples=200)
def test_auc_and_roc_curve_equal_the_reference(rows: list[Example]) -> None:
    labels, scores, _, weights = columns(rows)
    if len(np.unique(labels)) < 2:
        assert math.isnan(metrics.auc(labels, scores))
        with pytest.raises(DataError, match="both classes"):
            metrics.roc_curve(labels, scores)
        return
    expected = reference.roc_auc_score(labels, scores, sample_weight=weights)
    assert metrics.auc(labels, scores, weights) == pytest.approx(expected, abs=1e-9)
    assert metrics.auc(labels, scores) == pytest.approx(
        reference.roc_auc_score(labels, scores), abs=1e-9
    )
    curve = metrics.roc_curve(labels, scores, weights)
    points = reference.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for mine, theirs in zip(curve, points, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)


@given(examples, st.integers(1, 12))
@settings(deadline=None, max_examples=200)
def test_grouped_metrics_equal_the_reference(rows: list[Example], k: int) -> None:
    labels, scores, groups, weights = columns(rows)
    assert metrics.gauc(labels, scores, groups, weights) == pytest.approx(
        reference_gauc(labels, scores, groups, weights), abs=1e-9, nan_ok=True
    )
    assert metrics.ndcg_at_k(labels, scores, groups, k) == pytest.approx(
        reference_ndcg(labels, scores, groups, k), abs=1e-9, nan_ok=True
    )


@given(examples)
@settings(deadline=None, max_examples=200)
def test_log_loss_equals_the_reference_for_both_precisions(rows: list[Example]) -> None:
    labels, scores, _, weights = columns(rows)
    for dtype in (np.float32, np.float64):
        s = scores.astype(dtype)
        expected = reference.log_loss(labels, s, sample_weight=weights, labels=[0, 1])
        assert metrics.log_loss(labels, s, weights) == pytest.approx(expected, rel=1e-6)
    expected = reference.log_loss(labels, scores, sample_weight=weights, labels=[0, 1])
    assert metrics.log_loss(labels, scores, weights) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("num_bins", [1, 5, 10])
def test_calibration_curve_equals_the_reference(
    strategy: str, num_bins: int, rng: np.random.Generator
) -> None:
    scores = np.round(rng.random(500), 2)
    labels = (rng.random(500) < scores).astype(int)
    curve = metrics.calibration_curve(labels, scores, num_bins, strategy)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observed, predicted = calibration.calibration_curve(
            labels, scores, n_bins=num_bins, strategy=strategy
        )
    np.testing.assert_allclose(curve.observed, observed, atol=1e-9)
    np.testing.assert_allclose(curve.predicted, predicted, atol=1e-9)
    assert curve.weight.sum() == 500


def test_known_answers() -> None:
    labels = np.array([1, 0, 1, 0])
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    assert metrics.auc(labels, scores) == 0.75
    assert metrics.auc(labels, np.full(4, 0.5)) == 0.5
    assert metrics.calibration_ratio(labels, scores) == pytest.approx(2.1 / 2)
    one, two = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    assert metrics.gauc(labels, scores, one) == 1.0
    assert metrics.ndcg_at_k(labels, scores, two, k=1) == 1.0
    assert metrics.ndcg_at_k(labels, scores, two, k=3) == pytest.approx(
        (1 + 1 / 2) / (1 + 1 / math.log2(3))
    )


def test_groups_that_define_nothing_are_left_out() -> None:
    labels = np.array([1, 1, 0, 0, 1, 0])
    scores = np.array([0.2, 0.9, 0.1, 0.6, 0.4, 0.5])
    groups = np.array([7, 7, 8, 8, 9, 9])
    assert metrics.gauc(labels, scores, groups) == 0.0
    assert math.isnan(metrics.gauc(labels[:4], scores[:4], groups[:4]))
    assert math.isnan(metrics.ndcg_at_k(labels[2:4], scores[2:4], groups[2:4]))


def test_many_groups_keep_their_precision(rng: np.random.Generator) -> None:
    count = 4_000
    groups = rng.integers(0, 1_000, count).astype(np.uint64) * np.uint64(2**40)
    scores = np.round(rng.random(count), 1)
    labels = rng.integers(0, 2, count)
    assert metrics.gauc(labels, scores, groups) == pytest.approx(
        reference_gauc(labels, scores, groups, np.ones(count)), abs=1e-9
    )


def test_evaluate_scores_takes_columns_of_labels(rng: np.random.Generator) -> None:
    scores = rng.random(200, dtype=np.float32)
    labels = (rng.random(200) < scores).astype(np.float32)
    groups = rng.integers(0, 10, 200).astype(np.uint64)
    values = metrics.evaluate_scores(labels[:, None], scores, groups)
    assert values["auc"] == metrics.auc(labels, scores)
    assert values["ndcg_at_10"] == metrics.ndcg_at_k(labels, scores, groups)
    assert values["examples"] == 200
    assert values["positive_rate"] == pytest.approx(labels.mean())


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], "equally long"),
        ([0, 1], [0.5, math.nan], "finite, got nan at position 1"),
        ([0, 2], [0.5, 0.5], "labels must lie"),
        ([0, 1], [0.5, 1.5], "probabilities"),
    ],
)
def test_bad_input_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        metrics.log_loss(np.array(labels), np.array(scores))


def test_negative_weights_and_short_groups_are_refused() -> None:
    labels, scores = np.array([0, 1]), np.array([0.1, 0.2])
    with pytest.raises(DataError, match="weights"):
        metrics.auc(labels, scores, np.array([1.0, -1.0]))
    with pytest.raises(DataError, match="groups"):
        metrics.gauc(labels, scores, np.array([1]))
    with pytest.raises(DataError, match="at least 1"):
        metrics.ndcg_at_k(labels, scores, np.array([1, 1]), 0)


def test_weights_of_nothing_define_nothing() -> None:
    labels, scores, none = np.array([1, 0]), np.array([0.7, 0.2]), np.zeros(2)
    values = metrics.evaluate_scores(labels, scores, np.zeros(2), none)
    for name in ("auc", "gauc", "log_loss", "calibration_ratio"):
        assert math.isnan(values[name]), name
