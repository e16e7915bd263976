"""Metrics of one class out of several: what models of images are compared by."""

from __future__ import annotations

import numpy as np

from weiml.errors import DataError

__all__ = ["accuracy", "class_log_loss", "evaluate_classes", "top_k_accuracy"]


def accuracy(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of the examples whose class has the highest score; NaN without any weight.

    Args:
        labels: class numbers (n,), in any numeric type.
        scores: (n, K), of each class.
        weights: of the examples (n,); by default all weigh 1.

    Raises:
        DataError: the arrays don't fit each other, or a label is no class's number.
    """
    return top_k_accuracy(labels, scores, 1, weights)


def top_k_accuracy(
    labels: np.ndarray, scores: np.ndarray, k: int, weights: np.ndarray | None = None
) -> float:
    """Share of the examples whose class is among the k highest scores; see `accuracy`.

    A class whose score is tied at the edge counts by the share of the tied places that are among
    the k, so that scores which are all alike are worth k / K.
    """
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    y, s, w = _checked(labels, scores, weights)
    if not w.sum() > 0:
        return float("nan")
    own = s[np.arange(len(y)), y][:, None]
    above, tied = (s > own).sum(1), (s == own).sum(1)
    return float(np.average(np.clip((k - above) / tied, 0, 1), weights=w))


def class_log_loss(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Mean of -log of the class's probability, in nats; see `accuracy`.

    Probabilities are clipped from below by their dtype's machine epsilon.
    """
    kind = np.asarray(scores).dtype
    epsilon = np.finfo(kind).eps if np.issubdtype(kind, np.floating) else np.finfo(np.float64).eps
    y, s, w = _checked(labels, scores, weights)
    if not w.sum() > 0:
        return float("nan")
    own = s[np.arange(len(y)), y]
    return float(np.average(-np.log(np.clip(own, epsilon, 1)), weights=w))


def evaluate_classes(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, *, k: int = 3
) -> dict[str, float]:
    """Return every metric that models of classes are compared by, under the names of reports.

    See `accuracy` for the arguments; examples whose label is NaN are left out.
    """
    flat = np.asarray(labels, np.float64).reshape(-1)
    known = ~np.isnan(flat)
    if not known.all():
        flat, scores = flat[known], scores[known]
        weights = None if weights is None else weights[known]
    return {
        "accuracy": accuracy(flat, scores, weights),
        f"top_{k}_accuracy": top_k_accuracy(flat, scores, k, weights),
        "log_loss": class_log_loss(flat, scores, weights),
        "examples": float(len(flat)),
    }


def _checked(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels int64 (n,), scores float64 (n, K) and weights float64 (n,)."""
    y, s = np.asarray(labels).reshape(-1), np.asarray(scores, np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    if s.ndim != 2 or not len(y) == len(s) == len(w):
        raise DataError(
            "labels and weights must be as long as the scores (n, K), got "
            f"{len(y)}, {len(w)} and {s.shape}"
        )
    if not np.isfinite(s).all():
        raise DataError("scores must be finite")
    wrong = ~((y >= 0) & (y < s.shape[1]) & (y == np.floor(y)))
    if wrong.any():
        raise DataError(
            f"a label is a class's number from 0 to {s.shape[1] - 1}, got {y[wrong][0]}"
        )
    if (w < 0).any() or np.isnan(w).any():
        raise DataError("weights must not be negative")
    return y.astype(np.int64), s, w
