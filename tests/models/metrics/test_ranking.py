"""Metrics of groups against scikit-learn and against all orders that ties leave open."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from tests.models.metrics.conftest import Example, columns, examples, made
from weiml.errors import DataError
from weiml.models import metrics


def reference_aucs(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    values, masses = [], []
    for group in np.unique(groups):
        mine = groups == group
        if len(np.unique(labels[mine])) == 2:
            y, s, w = labels[mine], scores[mine], weights[mine]
            values.append(reference.roc_auc_score(y, s, sample_weight=w))
            masses.append(w.sum())
    return np.array(values), np.array(masses)


def reference_gauc(*columns: np.ndarray) -> float:
    values, masses = reference_aucs(*columns)
    return float(np.average(values, weights=masses)) if len(values) else math.nan


def reference_ndcgs(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, k: int
) -> list[float]:
    return [
        reference.ndcg_score(labels[mine][None], scores[mine][None], k=k)
        for mine in (groups == group for group in np.unique(groups))
        if mine.sum() > 1 and labels[mine].any()
    ]


def over_orders(
    labels: np.ndarray, scores: np.ndarray, of_order: Callable[[np.ndarray], float]
) -> float:
    """Return the mean of a metric over all orders with falling scores."""
    values = [
        of_order(labels[list(order)])
        for order in itertools.permutations(range(len(labels)))
        if (np.diff(scores[list(order)]) <= 0).all()
    ]
    return float(np.mean(values))


@given(examples, st.integers(1, 12))
@settings(deadline=None, max_examples=80)
def test_grouped_metrics_equal_the_reference(rows: list[Example], k: int) -> None:
    labels, scores, groups, weights = columns(rows)
    assert metrics.gauc(labels, scores, groups, weights) == pytest.approx(
        reference_gauc(labels, scores, groups, weights), abs=1e-9, nan_ok=True
    )
    values = reference_ndcgs(labels, scores, groups, k)
    estimate = metrics.ndcg_at_k_estimate(labels, scores, groups, k)
    assert estimate.value == pytest.approx(
        np.mean(values) if values else math.nan, abs=1e-9, nan_ok=True
    )
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    assert estimate.standard_error == pytest.approx(error, abs=1e-7, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=2, max_size=6))
@settings(deadline=None, max_examples=60)
def test_ties_are_means_over_orders(rows: list[tuple[int, int]]) -> None:
    labels, places = np.array(rows).T
    groups = np.ones(len(labels), int)
    for k in (1, 2, 4):

        def precision(order: np.ndarray, k: int = k) -> float:
            return float(np.mean(order[:k]))

        assert metrics.precision_at_k(labels, places, groups, k) == pytest.approx(
            over_orders(labels, places, precision), abs=1e-12
        )
    first = math.nan
    if labels.any():
        first = over_orders(labels, places, lambda order: 1 / (1 + int(np.argmax(order))))
    assert metrics.mrr(labels, places, groups) == pytest.approx(first, abs=1e-12, nan_ok=True)


def test_graded_labels_equal_the_reference(rng: np.random.Generator) -> None:
    _, scores, groups, _ = made(rng)
    grades = rng.integers(0, 4, len(scores)) / 3
    for k in (1, 3, 100_000):
        expected = np.mean(reference_ndcgs(grades, scores, groups, k))
        assert metrics.ndcg_at_k(grades, scores, groups, k) == pytest.approx(expected, abs=1e-9)


def test_standard_errors_are_those_of_means_over_groups(rng: np.random.Generator) -> None:
    labels, scores, groups, weights = made(rng)
    values, masses = reference_aucs(labels, scores, groups, weights)
    mean = np.average(values, weights=masses)
    n = len(values)
    expected = math.sqrt(n / (n - 1) * np.sum((masses * (values - mean)) ** 2)) / masses.sum()
    assert metrics.gauc_estimate(labels, scores, groups, weights) == pytest.approx(
        (mean, expected), abs=1e-9
    )
    aside = [
        [
            metric(labels[groups == group], scores[groups == group], groups[groups == group])
            for group in np.unique(groups)
        ]
        for metric in (metrics.precision_at_k, metrics.mrr)
    ]
    for estimate, found in zip(
        (
            metrics.precision_at_k_estimate(labels, scores, groups),
            metrics.mrr_estimate(labels, scores, groups),
        ),
        aside,
        strict=True,
    ):
        known = np.array(found)[~np.isnan(found)]
        error = known.std(ddof=1) / math.sqrt(len(known))
        assert estimate == pytest.approx((known.mean(), error), abs=1e-9)


def test_known_answers() -> None:
    labels = np.array([1, 0, 1, 0])
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    one, two = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    assert metrics.gauc(labels, scores, one) == 1.0
    assert metrics.ndcg_at_k(labels, scores, two, k=1) == 1.0
    assert metrics.ndcg_at_k(labels, scores, two, k=3) == pytest.approx(
        (1 + 1 / 2) / (1 + 1 / math.log2(3))
    )
    assert metrics.precision_at_k(labels, scores, two, k=3) == pytest.approx(2 / 3)
    assert metrics.precision_at_k(labels, scores, one, k=3) == 0.5  # two are all there are
    assert metrics.mrr(labels, -scores, two) == 0.5


def test_groups_that_define_nothing_are_left_out() -> None:
    labels = np.array([1, 1, 0, 0, 1, 0])
    scores = np.array([0.2, 0.9, 0.1, 0.6, 0.4, 0.5])
    groups = np.array([7, 7, 8, 8, 9, 9])
    assert metrics.gauc(labels, scores, groups) == 0.0
    assert math.isnan(metrics.gauc(labels[:4], scores[:4], groups[:4]))
    assert math.isnan(metrics.ndcg_at_k(labels[2:4], scores[2:4], groups[2:4]))
    assert math.isnan(metrics.mrr(labels[2:4], scores[2:4], groups[2:4]))
    assert metrics.precision_at_k(labels[2:4], scores[2:4], groups[2:4]) == 0.0
    assert math.isnan(metrics.precision_at_k(labels[:1], scores[:1], groups[:1]))


def test_many_groups_keep_their_precision(rng: np.random.Generator) -> None:
    count = 1_200
    groups = rng.integers(0, 300, count).astype(np.uint64) * np.uint64(2**40)
    scores = np.round(rng.random(count), 1)
    labels = rng.integers(0, 2, count)
    assert metrics.gauc(labels, scores, groups) == pytest.approx(
        reference_gauc(labels, scores, groups, np.ones(count)), abs=1e-9
    )


def test_bad_input_is_refused() -> None:
    labels, scores = np.array([0, 1]), np.array([0.1, 0.2])
    with pytest.raises(DataError, match="groups"):
        metrics.gauc(labels, scores, np.array([1]))
    with pytest.raises(DataError, match="at least 1"):
        metrics.ndcg_at_k(labels, scores, np.array([1, 1]), 0)
