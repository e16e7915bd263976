"""Hinge loss: that of support vector machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.models.losses.base import PointwiseLoss
from weiml.ps.optimizers.base import check_positive

__all__ = ["Hinge"]


@dataclass(frozen=True, kw_only=True)
class Hinge(PointwiseLoss):
    """``w (c y max(0, m − x) + (1 − y) max(0, m + x))``, with pos_weight c and margin m.

    The gradient is ``−w c y`` below the margin and ``w (1 − y)`` above minus the margin, 0
    elsewhere and at the bend. Cortes and Vapnik, "Support-Vector Networks", Machine Learning 20,
    1995. Where it is least the logit tells the likelier class only: calibrate.
    """

    name: Literal["hinge"] = "hinge"
    margin: float = 1.0
    pos_weight: float = 1.0

    calibrated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("loss hinge", margin=self.margin, pos_weight=self.pos_weight)

    def _each(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        return _fill(logits, labels, weights, self.margin, self.pos_weight, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    margin: float,
    pos_weight: float,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    total, mass = 0.0, 0.0
    for i in range(logits.size):
        if weights[i] > 0:
            x, w = float(logits[i]), float(weights[i])
            up, down = w * pos_weight * labels[i], w * (1.0 - labels[i])
            value, gradient = 0.0, 0.0
            if x < margin:
                value += up * (margin - x)
                gradient -= up
            if x > -margin:
                value += down * (margin + x)
                gradient += down
            values[i] = value
            gradients[i] = gradient
            total += value
            mass += w
    return total, mass
