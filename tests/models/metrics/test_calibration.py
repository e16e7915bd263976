"""Calibration: the curve against scikit-learn, ratio and expected error against plain sums."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import calibration

from tests.models.metrics.conftest import delta_error, made
from weiml.errors import DataError
from weiml.models import metrics


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


def test_ratio(rng: np.random.Generator) -> None:
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.3, 0.1])
    assert metrics.calibration_ratio(labels, scores) == pytest.approx(2.1 / 2)
    assert math.isnan(metrics.calibration_ratio(np.zeros(2), np.array([0.1, 0.2])))
    labels, scores, _, weights = made(rng)
    value, error = metrics.calibration_ratio_estimate(labels, scores, weights)
    assert value == pytest.approx(scores @ weights / (labels @ weights), rel=1e-12)
    expected = delta_error(lambda w: metrics.calibration_ratio(labels, scores, w), weights)
    assert error == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_bins", [1, 4, 20])
def test_expected_error_over_bins_of_equal_width(num_bins: int, rng: np.random.Generator) -> None:
    labels, scores, _, weights = made(rng)
    curve = metrics.calibration_curve(labels, scores, num_bins, "uniform", weights)
    expected = np.average(np.abs(curve.predicted - curve.observed), weights=curve.weight)
    found = metrics.expected_calibration_error_estimate(labels, scores, weights, num_bins=num_bins)
    assert found.value == pytest.approx(expected, abs=1e-12)

    def again(w: np.ndarray) -> float:
        return metrics.expected_calibration_error(labels, scores, w, num_bins=num_bins)

    assert found.standard_error == pytest.approx(delta_error(again, weights), rel=1e-5)


def test_expected_error_over_bins_of_equal_mass(rng: np.random.Generator) -> None:
    scores = rng.permutation(1000) / 1000
    labels = (rng.random(1000) < scores**2).astype(float)
    order = np.argsort(scores)
    expected = np.mean(
        [abs(scores[part].mean() - labels[part].mean()) for part in np.split(order, 10)]
    )
    found = metrics.expected_calibration_error(labels, scores, num_bins=10, bins="mass")
    assert found == pytest.approx(expected, abs=1e-12)
    # All of one score stay together, and the bins' number does not matter then.
    tied = metrics.expected_calibration_error(labels, np.full(1000, 0.25), bins="mass")
    assert tied == pytest.approx(abs(0.25 - labels.mean()), abs=1e-12)


def test_rare_positives_need_bins_of_equal_mass(rng: np.random.Generator) -> None:
    rate = rng.choice([0.001, 0.03], 40_000)
    labels = rng.random(40_000) < rate
    flat = np.where(rate > 0.01, 0.016, 0.015)  # right on average, blind otherwise
    wide = metrics.expected_calibration_error(labels, flat)
    assert metrics.expected_calibration_error(labels, flat, bins="mass") > 5 * wide


def test_bins_are_checked() -> None:
    one = np.array([1.0, 0.0])
    with pytest.raises(DataError, match="num_bins must be at least 1, got 0"):
        metrics.expected_calibration_error(one, one, num_bins=0)
    with pytest.raises(DataError, match="num_bins must be at least 1, got 0"):
        metrics.calibration_curve(one, one, 0)
    assert math.isnan(metrics.expected_calibration_error(one[:0], one[:0]))
