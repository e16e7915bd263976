"""Logistic regression on a few columns by Newton's method, in float64."""

from __future__ import annotations

import numpy as np

__all__ = ["fit_logistic", "logit", "softplus", "squash"]

_LEAST = 1e-12
_MOST = 1 - 2.0**-25  # what float32 cannot tell from 1 begins half a step below it
_STEPS = 100
_HALVINGS = 40


def logit(scores: np.ndarray) -> np.ndarray:
    """Return ``log(p / (1 − p))`` as float64; probabilities are clipped to [1e-12, 1 − 2⁻²⁵]."""
    p = np.clip(np.asarray(scores, np.float64), _LEAST, _MOST)
    return np.log(p) - np.log1p(-p)


def squash(x: np.ndarray) -> np.ndarray:
    """Return the float64 sigmoid ``1 / (1 + exp(−x))`` without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def softplus(x: np.ndarray) -> np.ndarray:
    """Return ``log(1 + exp(x))`` without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def fit_logistic(
    columns: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    start: np.ndarray,
    offsets: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return θ float64 (k,) with the least cross-entropy of ``sigmoid(θ · columns + offsets)``.

    Newton's method with halved steps. The loss is convex, so any start will do; where the classes
    can be told apart without error there is no least loss, and θ is large but finite.

    Args:
        columns: float64 (k, n).
        positive: float64 (n,), weight of positives at each place.
        negative: float64 (n,), weight of negatives.
        start: float64 (k,).
        offsets: added to each logit.
    """
    mass = positive + negative
    total = float(mass.sum())
    theta = np.array(start, np.float64)
    loss = _mean_loss(theta @ columns + offsets, positive, negative, total)
    for _ in range(_STEPS):
        p = squash(theta @ columns + offsets)
        gradient = columns @ (mass * p - positive) / total
        curvature = (columns * (mass * p * (1 - p))) @ columns.T / total
        # A trace of ridge: columns may depend on one another, as where all scores are equal.
        curvature[np.diag_indices_from(curvature)] += 1e-14 * (1 + np.trace(curvature))
        step = np.linalg.solve(curvature, gradient)
        moved, better = _descend(columns, positive, negative, offsets, theta, step, loss, total)
        gain, theta, loss = loss - better, moved, better
        if gain <= 1e-16 * (1 + abs(loss)) or float(gradient @ step) < 1e-22:
            break
    return theta


def _descend(
    columns: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    offsets: np.ndarray | float,
    theta: np.ndarray,
    step: np.ndarray,
    loss: float,
    total: float,
) -> tuple[np.ndarray, float]:
    """Return the first of θ − step, θ − step/2, … that is no worse, and its loss."""
    for _ in range(_HALVINGS):
        moved = theta - step
        better = _mean_loss(moved @ columns + offsets, positive, negative, total)
        if better <= loss:
            return moved, better
        step = step / 2
    return theta, loss


def _mean_loss(z: np.ndarray, positive: np.ndarray, negative: np.ndarray, total: float) -> float:
    return float(positive @ softplus(-z) + negative @ softplus(z)) / total
