"""Fake negative calibration: plain cross-entropy on late clicks, put right afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from weiml.models.losses.base import PointwiseLoss
from weiml.models.losses.cross_entropy import fill_cross_entropy

__all__ = ["FNC"]


@dataclass(frozen=True, kw_only=True)
class FNC(PointwiseLoss):
    """Cross-entropy, whose sigmoid b is read as ``p = b / (1 − b) = exp(x)``, at most 1.

    For streams in which each example comes at once as a negative, and once more as a positive when
    its click arrives: a share b = p / (1 + p) of them is positive, so b below one half is what the
    model should learn, and p follows. It keeps the order of b.

    Ktena et al., "Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR
    Prediction", RecSys 2019.
    """

    name: Literal["fnc"] = "fnc"

    calibrated: ClassVar[bool] = True

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return ``min(exp(x), 1)`` as float32, of logits of any shape."""
        return np.exp(np.minimum(np.asarray(logits, np.float64), 0.0)).astype(np.float32)

    def _each(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        return fill_cross_entropy(logits, labels, weights, 1.0, values, gradients)
