"""Ranking and calibration metrics of binary labels, equal to scikit-learn's to 1e-9.

Everything is vectorised over examples and groups: one sort, then sums over runs. A metric that the
data cannot define (one class only, no positive) is NaN.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from weiml.errors import DataError

__all__ = [
    "CalibrationCurve",
    "RocCurve",
    "auc",
    "calibration_curve",
    "calibration_ratio",
    "evaluate_scores",
    "gauc",
    "log_loss",
    "ndcg_at_k",
    "roc_curve",
]


class RocCurve(NamedTuple):
    """Points of the ROC curve from (0, 0) to (1, 1), by falling threshold; float64 (points,)."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


class CalibrationCurve(NamedTuple):
    """Mean prediction against the share of positives in each non-empty bin; float64 (bins,)."""

    predicted: np.ndarray
    observed: np.ndarray
    weight: np.ndarray


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve; tied scores count one half. NaN where only one class is present."""
    labels, scores, weights = _checked(labels, scores, weights)
    groups = np.zeros(len(labels), dtype=np.int64)
    values, _ = _auc_of_groups(labels, scores, groups, weights)
    return float(values[0]) if len(values) else float("nan")


def gauc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Mean over groups of their AUC, weighted by each group's sum of example weights.

    Groups with one class only have no AUC and are left out; NaN where no group is left. (Zhu et
    al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017.)
    """
    labels, scores, weights = _checked(labels, scores, weights)
    values, sizes = _auc_of_groups(labels, scores, _codes(groups, len(labels)), weights)
    defined = ~np.isnan(values)
    if not defined.any():
        return float("nan")
    return float(np.average(values[defined], weights=sizes[defined]))


def log_loss(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean cross-entropy in nats; probabilities are clipped by their dtype's machine epsilon."""
    kind = np.asarray(scores).dtype
    epsilon = np.finfo(kind).eps if np.issubdtype(kind, np.floating) else np.finfo(np.float64).eps
    labels, scores, weights = _checked(labels, scores, weights)
    _require_probabilities(scores)
    if not weights.sum() > 0:
        return float("nan")
    p = np.clip(scores, epsilon, 1 - epsilon)
    losses = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return float(np.average(losses, weights=weights))


def calibration_ratio(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Sum of predictions over sum of labels: 1 is calibrated, above 1 promises too much."""
    labels, scores, weights = _checked(labels, scores, weights)
    positives = float(np.dot(labels, weights))
    return float(np.dot(scores, weights)) / positives if positives > 0 else float("nan")


def ndcg_at_k(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    k: int = 10,
) -> float:
    """Mean over groups of NDCG@k with gains = labels; tied scores share their places' discounts.

    Groups of one example or without any positive say nothing about the order and are left out.
    NaN where no group is left. (Järvelin & Kekäläinen, TOIS 2002; ties: McSherry & Najork, 2008.)
    """
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    labels, scores, _ = _checked(labels, scores, None)
    codes = _codes(groups, len(labels))
    sizes = np.bincount(codes)
    ideal = _dcg_of_groups(labels, labels, codes, k)
    kept = (sizes > 1) & (ideal > 0)
    if not kept.any():
        return float("nan")
    return float(np.mean(_dcg_of_groups(labels, scores, codes, k)[kept] / ideal[kept]))


def roc_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> RocCurve:
    """Points of the ROC curve, one a distinct score, with (0, 0) at threshold infinity in front.

    Raises:
        DataError: only one class is present.
    """
    labels, scores, weights = _checked(labels, scores, weights)
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    last = np.r_[np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1]
    positives = np.cumsum(labels[order] * weights[order])[last]
    negatives = np.cumsum((1 - labels[order]) * weights[order])[last]
    if positives[-1] <= 0 or negatives[-1] <= 0:
        raise DataError("a ROC curve needs both classes; the labels hold only one")
    return RocCurve(
        np.r_[0.0, negatives / negatives[-1]],
        np.r_[0.0, positives / positives[-1]],
        np.r_[np.inf, sorted_scores[last]],
    )


def calibration_curve(
    labels: np.ndarray,
    scores: np.ndarray,
    num_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "quantile",
    weights: np.ndarray | None = None,
) -> CalibrationCurve:
    """Reliability diagram: bins of equal width ("uniform") or of equal counts ("quantile")."""
    if num_bins < 1:
        raise DataError(f"num_bins must be at least 1, got {num_bins}")
    labels, scores, weights = _checked(labels, scores, weights)
    _require_probabilities(scores)
    if not len(scores):
        return CalibrationCurve(np.empty(0), np.empty(0), np.empty(0))
    places = np.linspace(0.0, 1.0, num_bins + 1)
    edges = np.percentile(scores, places * 100) if strategy == "quantile" else places
    bins = np.searchsorted(edges[1:-1], scores)
    mass = np.bincount(bins, weights=weights, minlength=num_bins)
    predicted = np.bincount(bins, weights=weights * scores, minlength=num_bins)
    observed = np.bincount(bins, weights=weights * labels, minlength=num_bins)
    filled = mass > 0
    return CalibrationCurve(
        predicted[filled] / mass[filled], observed[filled] / mass[filled], mass[filled]
    )


def evaluate_scores(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    k: int = 10,
) -> dict[str, float]:
    """Return every metric that models are compared by, under the names used in reports."""
    flat = np.asarray(labels).reshape(-1)
    return {
        "auc": auc(flat, scores, weights),
        "gauc": gauc(flat, scores, groups, weights),
        "log_loss": log_loss(flat, scores, weights),
        "calibration_ratio": calibration_ratio(flat, scores, weights),
        f"ndcg_at_{k}": ndcg_at_k(flat, scores, groups, k),
        "positive_rate": float(np.mean(flat, dtype=np.float64)) if len(flat) else float("nan"),
        "examples": float(len(flat)),
    }


def _auc_of_groups(
    labels: np.ndarray, scores: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (AUC, sum of weights) of each group 0..G-1; AUC is NaN for groups with one class.

    After a sort by (group, score), equal neighbours form runs. Each run's positives beat the
    negatives of the group's earlier runs and tie with those of their own.
    """
    if not len(labels):
        return np.empty(0), np.empty(0)
    order = np.lexsort((scores, codes))
    starts = _run_starts(codes[order], scores[order])
    positives = np.add.reduceat((labels * weights)[order], starts)
    negatives = np.add.reduceat(((1 - labels) * weights)[order], starts)
    run_codes = codes[order][starts]
    num_groups = int(run_codes[-1]) + 1
    group_positives = np.bincount(run_codes, positives, num_groups)
    group_negatives = np.bincount(run_codes, negatives, num_groups)
    earlier_groups = np.cumsum(group_negatives) - group_negatives
    below = np.cumsum(negatives) - negatives - earlier_groups[run_codes]
    wins = np.bincount(run_codes, positives * (below + negatives / 2), num_groups)
    pairs = group_positives * group_negatives
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(pairs > 0, wins / pairs, np.nan)
    return values, group_positives + group_negatives


def _dcg_of_groups(gains: np.ndarray, scores: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """Return DCG@k of each group; a run of tied scores gets its mean gain at each of its places."""
    if not len(gains):
        return np.empty(0)
    order = np.lexsort((-scores, codes))
    sorted_codes = codes[order]
    sizes = np.bincount(codes)
    group_starts = np.cumsum(sizes) - sizes
    places = np.arange(len(gains)) - group_starts[sorted_codes]
    discounts = np.where(places < k, 1.0 / np.log2(places + 2.0), 0.0)
    starts = _run_starts(sorted_codes, scores[order])
    lengths = np.diff(np.r_[starts, len(gains)])
    mean_gains = np.add.reduceat(gains[order], starts) / lengths
    run_dcg = mean_gains * np.add.reduceat(discounts, starts)
    return np.bincount(sorted_codes[starts], run_dcg, len(sizes))


def _run_starts(codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return where runs of equal (group, score) start in sorted arrays."""
    changed = (codes[1:] != codes[:-1]) | (scores[1:] != scores[:-1])
    return np.r_[0, np.flatnonzero(changed) + 1]


def _codes(groups: np.ndarray, count: int) -> np.ndarray:
    """Number the distinct groups 0..G-1."""
    groups = np.asarray(groups).reshape(-1)
    if len(groups) != count:
        raise DataError(f"groups must be as long as labels ({count}), got {len(groups)}")
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def _checked(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return flat float64 arrays of one length; refuse labels outside [0, 1], scores not finite."""
    y = np.asarray(labels, dtype=np.float64).reshape(-1)
    s = np.asarray(scores, dtype=np.float64).reshape(-1)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    if not len(y) == len(s) == len(w):
        raise DataError(
            f"labels, scores and weights must be equally long, got {len(y)}, {len(s)} and {len(w)}"
        )
    if not np.isfinite(s).all():
        first = int(np.flatnonzero(~np.isfinite(s))[0])
        raise DataError(f"scores must be finite, got {s[first]} at position {first}")
    if ((y < 0) | (y > 1)).any() or np.isnan(y).any():
        raise DataError("labels must lie in [0, 1]")
    if (w < 0).any() or np.isnan(w).any():
        raise DataError("weights must not be negative")
    return y, s, w


def _require_probabilities(scores: np.ndarray) -> None:
    if len(scores) and (scores.min() < 0 or scores.max() > 1):
        raise DataError(
            f"scores must be probabilities in [0, 1], got {scores.min():g} to {scores.max():g}"
        )
