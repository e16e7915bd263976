"""Fake negative weighted loss: learning from clicks that come late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.models.losses.base import PointwiseLoss
from weiml.models.losses.logistic import logistic

__all__ = ["FNW"]


@dataclass(frozen=True, kw_only=True)
class FNW(PointwiseLoss):
    """Cross-entropy with weights ``1 + p`` of positives and ``(1 − p) (1 + p)`` of negatives.

    For streams in which each example comes at once as a negative, and once more as a positive when
    its click arrives. Of such a stream a share b = p / (1 + p) is positive; the weights, which are
    ratios of the true to the stream's distribution at the model's own p = sigmoid(x), correct that.
    They count as constants: the gradient is ``−w (1 + p) (1 − p)`` of a positive and
    ``w (1 − p) (1 + p) p`` of a negative, 0 on average exactly where p is the true probability.

    Ktena et al., "Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR
    Prediction", RecSys 2019.
    """

    name: Literal["fnw"] = "fnw"

    calibrated: ClassVar[bool] = True

    def _each(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        return _fill(logits, labels, weights, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    total, mass = 0.0, 0.0
    for i in range(logits.size):
        if weights[i] > 0:
            x, w = float(logits[i]), float(weights[i])
            p, q, plus = logistic(x)
            up = labels[i] * (1.0 + p)
            down = (1.0 - labels[i]) * q * (1.0 + p)
            value = w * (up * (plus - x) + down * plus)
            values[i] = value
            gradients[i] = w * (down * p - up * q)
            total += value
            mass += w
    return total, mass
