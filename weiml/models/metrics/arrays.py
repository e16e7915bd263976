"""What metrics take in: flat float64 arrays of one length, checked; and sums over equal runs."""

from __future__ import annotations

import numpy as np

from weiml.errors import DataError

__all__ = ["checked", "codes_of", "require_probabilities", "run_starts", "smallest_probability"]


def checked(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return flat float64 arrays of one length; weights are ones where there are none.

    Raises:
        DataError: the lengths differ, a label lies outside [0, 1], a score is not finite, or a
            weight is negative or not finite.
    """
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
    if not ((y >= 0) & (y <= 1)).all():
        first = int(np.flatnonzero(~((y >= 0) & (y <= 1)))[0])
        raise DataError(f"labels must lie in [0, 1], got {y[first]} at position {first}")
    if not ((w >= 0) & np.isfinite(w)).all():
        raise DataError("weights must not be negative, and finite")
    return y, s, w


def codes_of(groups: np.ndarray, count: int) -> np.ndarray:
    """Number the distinct groups 0..G-1, in their order."""
    groups = np.asarray(groups).reshape(-1)
    if len(groups) != count:
        raise DataError(f"groups must be as long as labels ({count}), got {len(groups)}")
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def require_probabilities(scores: np.ndarray) -> None:
    """Raise DataError unless all scores lie in [0, 1]."""
    if len(scores) and (scores.min() < 0 or scores.max() > 1):
        raise DataError(
            f"scores must be probabilities in [0, 1], got {scores.min():g} to {scores.max():g}"
        )


def run_starts(*columns: np.ndarray) -> np.ndarray:
    """Return where runs of equal values start in columns that were sorted together."""
    if not len(columns[0]):
        return np.empty(0, np.int64)
    changed = np.zeros(len(columns[0]) - 1, bool)
    for column in columns:
        changed |= column[1:] != column[:-1]
    return np.concatenate([[0], np.flatnonzero(changed) + 1])


def smallest_probability(scores: np.ndarray) -> float:
    """Return what probabilities are clipped by in logarithms: their dtype's machine epsilon."""
    kind = np.asarray(scores).dtype
    return float(np.finfo(kind if np.issubdtype(kind, np.floating) else np.float64).eps)
