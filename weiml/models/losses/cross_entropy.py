"""Cross-entropy of the sigmoid: the log-loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.models.calibration.logistic import squash
from weiml.models.losses.base import PointwiseLoss
from weiml.models.losses.logistic import logistic
from weiml.ps.optimizers.base import check_positive

__all__ = ["CrossEntropy", "fill_cross_entropy"]


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(PointwiseLoss):
    """Log-loss: with p = sigmoid(x), ``w (−c y log p − (1 − y) log(1 − p))``.

    Its gradient is ``w (c y (p − 1) + (1 − y) p)``. `pos_weight` c multiplies positives, and with
    them their odds: where the loss is least the odds are c times the true ones, so `probabilities`
    are ``sigmoid(x − log c)``.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    pos_weight: float = 1.0

    calibrated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("loss cross_entropy", pos_weight=self.pos_weight)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return ``sigmoid(x − log pos_weight)`` as float32, of logits of any shape."""
        shifted = np.asarray(logits, np.float64) - math.log(self.pos_weight)
        return squash(shifted).astype(np.float32)

    def _each(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        return fill_cross_entropy(logits, labels, weights, self.pos_weight, values, gradients)


@numba.njit(cache=True, nogil=True)
def fill_cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    pos_weight: float,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    """Write losses and gradients where weights are above 0; return the sums of loss and weight."""
    total, mass = 0.0, 0.0
    for i in range(logits.size):
        if weights[i] > 0:
            x, w = float(logits[i]), float(weights[i])
            p, rest, plus = logistic(x)
            up, down = pos_weight * labels[i], 1.0 - labels[i]
            value = w * (up * (plus - x) + down * plus)
            values[i] = value
            gradients[i] = w * (down * p - up * rest)
            total += value
            mass += w
    return total, mass
