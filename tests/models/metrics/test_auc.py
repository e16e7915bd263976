"""AUC and the ROC curve against scikit-learn; the standard error against DeLong, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as reference

from tests.models.metrics.conftest import Example, columns, delta_error, examples, made
from weiml.errors import DataError
from weiml.models import metrics


def delong(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return AUC and DeLong's standard error from the matrix of all pairs."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    by_positive, by_negative = wins.mean(axis=1), wins.mean(axis=0)
    variance = by_positive.var(ddof=1) / len(positive) + by_negative.var(ddof=1) / len(negative)
    return float(wins.mean()), math.sqrt(variance)


@given(examples)
@settings(deadline=None, max_examples=80)
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


@given(examples)
@settings(deadline=None, max_examples=60)
def test_the_standard_error_is_delong_s(rows: list[Example]) -> None:
    labels, scores, _, _ = columns(rows)
    value, error = metrics.auc_estimate(labels, scores)
    if min(np.sum(labels == 1), np.sum(labels == 0)) < 2:
        assert math.isnan(error)
        return
    assert (value, error) == pytest.approx(delong(labels, scores), abs=1e-9)


def test_weights_that_count_do_not_make_the_error_smaller_than_it_is(
    rng: np.random.Generator,
) -> None:
    labels, scores, _, weights = made(rng)
    value, error = metrics.auc_estimate(labels, scores, weights)
    assert metrics.auc_estimate(labels, scores, 7 * weights) == pytest.approx((value, error))
    expected = delta_error(lambda w: metrics.auc(labels, scores, w), weights)
    assert error == pytest.approx(expected, rel=0.01)  # the classes' own n / (n - 1)
    assert error > metrics.auc_estimate(labels, scores).standard_error


def test_labels_between_the_classes(rng: np.random.Generator) -> None:
    _, scores, _, weights = made(rng)
    soft = rng.random(len(scores))
    value, error = metrics.auc_estimate(soft, scores, weights)
    twice = np.concatenate([np.ones(len(soft)), np.zeros(len(soft))])
    doubled = np.concatenate([soft * weights, (1 - soft) * weights])
    assert value == pytest.approx(metrics.auc(twice, np.tile(scores, 2), doubled), abs=1e-12)
    expected = delta_error(lambda w: metrics.auc(soft, scores, w), weights)
    assert error == pytest.approx(expected, rel=0.01)


def test_the_error_is_what_new_samples_vary_by(rng: np.random.Generator) -> None:
    found = []
    for _ in range(300):
        labels = rng.integers(0, 2, 200)
        found.append(metrics.auc_estimate(labels, np.round(rng.normal(labels), 1)))
    values, errors = np.array(found).T
    assert values.std() == pytest.approx(errors.mean(), rel=0.15)


def test_known_answers() -> None:
    labels = np.array([1, 0, 1, 0])
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    assert metrics.auc(labels, scores) == 0.75
    assert metrics.auc(labels, np.full(4, 0.5)) == 0.5
    assert metrics.auc(labels, 100 * scores - 7) == 0.75  # any scores will do


def test_nothing_to_compare() -> None:
    none = np.empty(0)
    assert math.isnan(metrics.auc(none, none))
    assert math.isnan(metrics.auc(np.array([1, 0]), np.array([0.7, 0.2]), np.zeros(2)))
    with pytest.raises(DataError, match="both classes"):
        metrics.roc_curve(none, none)


def test_negative_weights_are_refused() -> None:
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="weights"):
            metrics.auc(np.array([0, 1]), np.array([0.1, 0.2]), np.array([1.0, bad]))
