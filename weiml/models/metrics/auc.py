"""Area under the ROC curve with DeLong's standard error, and the curve itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from weiml.errors import DataError
from weiml.models.metrics.arrays import checked
from weiml.models.metrics.estimate import UNKNOWN, Estimate
from weiml.models.metrics.score_runs import ScoreRuns, runs_of

__all__ = ["RocCurve", "auc", "auc_estimate", "auc_of_runs", "roc_curve"]


class RocCurve(NamedTuple):
    """Points of the ROC curve from (0, 0) to (1, 1), by falling threshold; float64 (points,)."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve; tied scores count one half. NaN where only one class is present."""
    return auc_estimate(labels, scores, weights).value


def auc_estimate(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> Estimate:
    """Return `auc` with its standard error (DeLong, DeLong and Clarke-Pearson, Biometrics, 1988).

    With ``a_i`` the share of negatives that positive i beats and ``b_j`` the share of positives
    that beat negative j, the variance is ``var(a) / m + var(b) / n``; weights enter as in a
    weighted mean. NaN with fewer than two of a class.
    """
    return auc_of_runs(runs_of(*checked(labels, scores, weights)))


def auc_of_runs(runs: ScoreRuns) -> Estimate:
    """Return the AUC of examples summed by score."""
    p, q, pp, qq, pq = runs.sums
    positives, negatives = float(p.sum()), float(q.sum())
    if not (positives > 0 and negatives > 0):
        return UNKNOWN
    beaten = (np.cumsum(q) - q / 2) / negatives
    beating = 1 - (np.cumsum(p) - p / 2) / positives
    value = float(p @ beaten) / positives
    m, n, _ = runs.counts
    if m < 2 or n < 2:
        return Estimate(value, math.nan)
    a, b = (beaten - value) / positives, (beating - value) / negatives
    variance = m / (m - 1) * (a**2 @ pp) + n / (n - 1) * (b**2 @ qq) + 2 * (a * b) @ pq
    return Estimate(value, math.sqrt(max(float(variance), 0.0)))


def roc_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> RocCurve:
    """Points of the ROC curve, one a distinct score, with (0, 0) at threshold infinity in front.

    Raises:
        DataError: only one class is present.
    """
    runs = runs_of(*checked(labels, scores, weights))
    positives, negatives = np.cumsum(runs.sums[:2, ::-1], axis=1)
    if not len(positives) or positives[-1] <= 0 or negatives[-1] <= 0:
        raise DataError("a ROC curve needs both classes; the labels hold only one")
    return RocCurve(
        np.concatenate([[0.0], negatives / negatives[-1]]),
        np.concatenate([[0.0], positives / positives[-1]]),
        np.concatenate([[np.inf], runs.scores[::-1]]),
    )
