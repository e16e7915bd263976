"""Whether probabilities are true: calibration ratio, expected calibration error, the curve."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from weiml.errors import DataError
from weiml.models.metrics.arrays import checked, require_probabilities
from weiml.models.metrics.estimate import UNKNOWN, Estimate, WeightedMoments
from weiml.models.metrics.score_runs import ScoreRuns, runs_of

__all__ = [
    "Bins",
    "CalibrationCurve",
    "calibration_curve",
    "calibration_ratio",
    "calibration_ratio_estimate",
    "calibration_ratio_of",
    "expected_calibration_error",
    "expected_calibration_error_estimate",
    "expected_calibration_error_of_runs",
]

Bins = Literal["width", "mass"]


class CalibrationCurve(NamedTuple):
    """Mean prediction against the share of positives in each non-empty bin; float64 (bins,)."""

    predicted: np.ndarray
    observed: np.ndarray
    weight: np.ndarray


def calibration_ratio(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Sum of predictions over sum of labels: 1 is calibrated, above 1 promises too much."""
    return calibration_ratio_estimate(labels, scores, weights).value


def calibration_ratio_estimate(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> Estimate:
    """Return `calibration_ratio` with its standard error by the delta method."""
    y, s, w = checked(labels, scores, weights)
    moments = WeightedMoments(2)
    moments.add([y, s], w)
    return calibration_ratio_of(moments, 0, 1)


def calibration_ratio_of(
    moments: WeightedMoments, label_column: int, score_column: int
) -> Estimate:
    """Return the ratio from moments of labels and scores."""
    means = moments.means
    rate, mean = float(means[label_column]), float(means[score_column])
    if not rate > 0:
        return UNKNOWN
    gradient = np.zeros(len(means))
    gradient[label_column] = -mean / rate**2
    gradient[score_column] = 1 / rate
    return moments.function(mean / rate, gradient)


def expected_calibration_error(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    num_bins: int = 20,
    bins: Bins = "width",
) -> float:
    """ECE: mean over bins of ``|mean score − share of positives|``, by the bins' weights.

    Bins of equal width, ``((b − 1) / n, b / n]``, or of equal mass, where all of one score share a
    bin. With click rates of a few per cent the former all lie in the first bin or two. Chance alone
    makes the error positive, about ``√(2 p (1 − p) / (π m))`` in a bin of m examples.

    (Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017.)
    """
    return expected_calibration_error_estimate(
        labels, scores, weights, num_bins=num_bins, bins=bins
    ).value


def expected_calibration_error_estimate(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    num_bins: int = 20,
    bins: Bins = "width",
) -> Estimate:
    """Return `expected_calibration_error` with its standard error, given the bins, by delta."""
    y, s, w = checked(labels, scores, weights)
    require_probabilities(s)
    return expected_calibration_error_of_runs(runs_of(y, s, w), num_bins, bins)


def expected_calibration_error_of_runs(runs: ScoreRuns, num_bins: int, bins: Bins) -> Estimate:
    """Return the ECE of examples summed by score."""
    _check_bins(num_bins)
    mass = runs.positive + runs.negative
    if not len(mass):
        return UNKNOWN
    total = float(mass.sum())
    places = (
        _bins_of_width(runs.scores, num_bins)
        if bins == "width"
        else np.minimum((np.cumsum(mass) - mass / 2) / total * num_bins, num_bins - 1).astype(int)
    )
    excess = np.bincount(places, runs.scores * mass - runs.positive, num_bins)
    value = float(np.abs(excess).sum()) / total
    sign = np.sign(excess)[places]
    error = runs.spread(sign * (runs.scores - 1) - value, sign * runs.scores - value)
    return Estimate(value, error)


def calibration_curve(
    labels: np.ndarray,
    scores: np.ndarray,
    num_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "quantile",
    weights: np.ndarray | None = None,
) -> CalibrationCurve:
    """Reliability diagram: bins of equal width ("uniform") or of equal counts ("quantile")."""
    _check_bins(num_bins)
    labels, scores, weights = checked(labels, scores, weights)
    require_probabilities(scores)
    if not len(scores):
        return CalibrationCurve(np.empty(0), np.empty(0), np.empty(0))
    if strategy == "quantile":
        edges = np.percentile(scores, np.linspace(0.0, 100.0, num_bins + 1))
        bins = np.searchsorted(edges[1:-1], scores)
    else:
        bins = _bins_of_width(scores, num_bins)
    mass = np.bincount(bins, weights=weights, minlength=num_bins)
    predicted = np.bincount(bins, weights=weights * scores, minlength=num_bins)
    observed = np.bincount(bins, weights=weights * labels, minlength=num_bins)
    filled = mass > 0
    return CalibrationCurve(
        predicted[filled] / mass[filled], observed[filled] / mass[filled], mass[filled]
    )


def _bins_of_width(scores: np.ndarray, num_bins: int) -> np.ndarray:
    return np.searchsorted(np.linspace(0.0, 1.0, num_bins + 1)[1:-1], scores)


def _check_bins(num_bins: int) -> None:
    if num_bins < 1:
        raise DataError(f"num_bins must be at least 1, got {num_bins}")
