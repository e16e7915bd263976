"""Log-loss, and the same over the log-loss of the positives' share: NE and RCE."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from weiml.models.calibration.logistic import fit_logistic, logit, softplus
from weiml.models.calibration.pooling import pool_adjacent_violators
from weiml.models.metrics.arrays import checked, require_probabilities, smallest_probability
from weiml.models.metrics.estimate import UNKNOWN, Estimate, WeightedMoments
from weiml.models.metrics.score_runs import ScoreRuns, runs_of

__all__ = [
    "cross_entropies",
    "log_loss",
    "log_loss_estimate",
    "normalized_entropy",
    "normalized_entropy_estimate",
    "normalized_entropy_of",
    "recalibrated_ne",
    "recalibrated_ne_estimate",
    "recalibrated_ne_of_runs",
    "relative_cross_entropy",
    "relative_of",
]

Recalibration = Literal["affine", "isotonic"]


def log_loss(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean cross-entropy in nats; probabilities are clipped by their dtype's machine epsilon."""
    return log_loss_estimate(labels, scores, weights).value


def log_loss_estimate(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> Estimate:
    """Return `log_loss` with the standard error of a weighted mean."""
    return _moments(labels, scores, weights).mean(1)


def normalized_entropy(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """NE: log-loss over that of always saying the share of positives; below 1 has learned.

    (He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014.) NaN
    where only one class is present.
    """
    return normalized_entropy_estimate(labels, scores, weights).value


def normalized_entropy_estimate(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> Estimate:
    """Return `normalized_entropy` with its standard error by the delta method."""
    return normalized_entropy_of(_moments(labels, scores, weights))


def relative_cross_entropy(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """RCE: ``(1 − NE) · 100``, the per cent of cross-entropy saved; higher is better."""
    return relative_of(normalized_entropy_estimate(labels, scores, weights)).value


def recalibrated_ne(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    method: Recalibration = "affine",
) -> float:
    """NE left after the best recalibration on these very examples.

    What is left of `normalized_entropy` is the order's fault; the rest, the scale's.

    "affine" fits ``sigmoid(a logit(score) + b)`` with a ≥ 0: two numbers, so what it gains by
    chance is about 1/n nats, and the standard error holds. "isotonic" takes the best of all
    monotone maps: no calibration that keeps the order can do better, but on few examples it fits
    noise, and its standard error leaves that out.
    """
    return recalibrated_ne_estimate(labels, scores, weights, method).value


def recalibrated_ne_estimate(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    method: Recalibration = "affine",
) -> Estimate:
    """Return `recalibrated_ne` with its standard error by the delta method.

    At the best map the loss does not depend on the map to first order, so it counts as given.
    """
    y, s, w = checked(labels, scores, weights)
    require_probabilities(s)
    return recalibrated_ne_of_runs(runs_of(y, s, w), method)


def cross_entropies(labels: np.ndarray, scores: np.ndarray, epsilon: float) -> np.ndarray:
    """Return each example's cross-entropy float64 (n,), probabilities clipped by `epsilon`."""
    p = np.clip(scores, epsilon, 1 - epsilon)
    return np.asarray(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)))


def normalized_entropy_of(
    moments: WeightedMoments, label_column: int = 0, loss_column: int = 1
) -> Estimate:
    """Return NE from the moments of labels and cross-entropies: L / H(p).

    Its gradient is −L H'(p) / H² by the labels' mean p, with H'(p) = log((1 − p) / p), and 1 / H by
    the mean loss L.
    """
    means = moments.means
    rate, loss = float(means[label_column]), float(means[loss_column])
    if not 0 < rate < 1:
        return UNKNOWN
    entropy = _entropy(rate)
    gradient = np.zeros(len(means))
    gradient[label_column] = -loss * math.log((1 - rate) / rate) / entropy**2
    gradient[loss_column] = 1 / entropy
    return moments.function(loss / entropy, gradient)


def relative_of(ne: Estimate) -> Estimate:
    """Return RCE from NE."""
    return Estimate((1 - ne.value) * 100, ne.standard_error * 100)


def recalibrated_ne_of_runs(runs: ScoreRuns, method: Recalibration = "affine") -> Estimate:
    """Return the recalibrated NE of examples summed by score."""
    p, q = runs.positive, runs.negative
    mass = p + q
    rate = float(p.sum()) / float(mass.sum()) if len(p) else 0.0
    if not 0 < rate < 1:
        return UNKNOWN
    of_positive, of_negative = (
        _affine_losses(runs, rate) if method == "affine" else _isotonic_losses(p, mass)
    )
    loss = float(p @ of_positive + q @ of_negative) / float(mass.sum())
    entropy = _entropy(rate)
    slope = loss * math.log((1 - rate) / rate) / entropy**2
    error = runs.spread(
        (of_positive - loss) / entropy - slope * (1 - rate),
        (of_negative - loss) / entropy + slope * rate,
    )
    return Estimate(loss / entropy, error)


def _affine_losses(runs: ScoreRuns, rate: float) -> tuple[np.ndarray, np.ndarray]:
    columns = np.stack([logit(runs.scores), np.ones(len(runs.scores))])
    slope, intercept = fit_logistic(columns, runs.positive, runs.negative, np.array([1.0, 0.0]))
    if slope < 0:  # a falling map is no calibration; the best that does not fall is a constant
        slope, intercept = 0.0, math.log(rate / (1 - rate))
    z = slope * columns[0] + intercept
    return softplus(-z), softplus(z)


def _isotonic_losses(positive: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fitted = pool_adjacent_violators(positive / mass, mass)
    least = np.finfo(np.float64).tiny  # a block of one class has no loss; 0 · log 0 is 0
    return -np.log(np.maximum(fitted, least)), -np.log(np.maximum(1 - fitted, least))


def _entropy(rate: float) -> float:
    return -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)


def _moments(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> WeightedMoments:
    epsilon = smallest_probability(scores)
    y, s, w = checked(labels, scores, weights)
    require_probabilities(s)
    moments = WeightedMoments(2)
    moments.add([y, cross_entropies(y, s, epsilon)], w)
    return moments
