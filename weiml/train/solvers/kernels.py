"""Compiled passes over a part of the data: the loss at a vector of weights, and its gradient.

Sums are float64. Fast-math stays off, so that every process computes the same bits.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["LOGISTIC", "SQUARED_HINGE", "loss_pass", "square_pass"]

LOGISTIC = 0
SQUARED_HINGE = 1


@numba.njit(cache=True, nogil=True)
def _margin(
    w: np.ndarray,
    places: np.ndarray,
    values: np.ndarray | None,
    dense: np.ndarray,
    b: int,
    start: int,
    stop: int,
) -> float:
    total = w[0]
    for d in range(dense.shape[1]):
        total += w[1 + d] * np.float64(dense[b, d])
    for j in range(start, stop):
        value = 1.0 if values is None else np.float64(values[j])
        total += w[places[j]] * value
    return total


@numba.njit(cache=True, nogil=True)
def _loss_and_slope(kind: int, margin: float, label: float) -> tuple[float, float]:
    if kind == SQUARED_HINGE:
        sign = 2.0 * label - 1.0
        short = max(1.0 - sign * margin, 0.0)
        return short * short, -2.0 * sign * short
    e = math.exp(-abs(margin))
    loss = math.log1p(e) + max(margin, 0.0) - label * margin
    # The smaller of the two probabilities keeps its digits.
    small = e / (1.0 + e)
    if margin >= 0.0:
        return loss, (1.0 - label) - small
    return loss, small - label


@numba.njit(cache=True, nogil=True)
def loss_pass(
    kind: int,
    w: np.ndarray,
    places: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
    dense: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    gradient: np.ndarray,
) -> float:
    """Return the weighted sum of losses of B examples; add its gradient to `gradient`.

    logistic, of labels in [0, 1]: ``log(1 + exp(m)) - y m``; squared hinge:
    ``max(0, 1 - (2 y - 1) m)²``; with the margin ``m = w[0] + Σ_d w[1 + d] dense + Σ_j w[place]
    value``.

    Args:
        kind: `LOGISTIC` or `SQUARED_HINGE`.
        w: float64 (P,).
        places: int32 (nnz,), where each key's weight stands in w.
        values: float32 (nnz,), None where all are 1.
        starts: int64 (B + 1,), where the examples start in `places`.
        dense: float32 (B, D).
        labels: float32 (B,).
        weights: float32 (B,).
        gradient: float64 (P,).
    """
    total = 0.0
    for b in range(labels.size):
        start, stop = starts[b], starts[b + 1]
        margin = _margin(w, places, values, dense, b, start, stop)
        loss, slope = _loss_and_slope(kind, margin, np.float64(labels[b]))
        weight = np.float64(weights[b])
        total += weight * loss
        slope *= weight
        if slope == 0.0:
            continue
        gradient[0] += slope
        for d in range(dense.shape[1]):
            gradient[1 + d] += slope * np.float64(dense[b, d])
        for j in range(start, stop):
            value = 1.0 if values is None else np.float64(values[j])
            gradient[places[j]] += slope * value
    return total


@numba.njit(cache=True, nogil=True)
def square_pass(
    kind: int,
    w: np.ndarray,
    places: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
    dense: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    squares: np.ndarray,
) -> None:
    """Add the squares of the examples' gradients to `squares` float64 (P,); see `loss_pass`."""
    for b in range(labels.size):
        start, stop = starts[b], starts[b + 1]
        margin = _margin(w, places, values, dense, b, start, stop)
        slope = _loss_and_slope(kind, margin, np.float64(labels[b]))[1] * np.float64(weights[b])
        squares[0] += slope * slope
        for d in range(dense.shape[1]):
            squares[1 + d] += (slope * np.float64(dense[b, d])) ** 2
        for j in range(start, stop):
            value = 1.0 if values is None else np.float64(values[j])
            squares[places[j]] += (slope * value) ** 2
