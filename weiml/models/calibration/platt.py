"""Platt scaling: log-odds scaled and shifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from weiml.models.calibration.base import Calibration
from weiml.models.calibration.logistic import fit_logistic, logit
from weiml.models.calibration.scaling import FittedScaling

__all__ = ["Platt"]


@dataclass(frozen=True, kw_only=True)
class Platt(Calibration):
    """``sigmoid(a logit(p) + b)`` with the least cross-entropy, by Newton's method in float64.

    With `smoothing`, labels 1 and 0 count as ``(P + 1) / (P + 2)`` and ``1 / (N + 2)``, with P and
    N the weights of the classes: what is believed of them a priori; few examples then do not lead
    to certainty, and one class alone will do. Without, the mean probability is exactly the share of
    positives. A falling order of scores gives a negative a, which turns the order round.

    Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized
    Likelihood Methods", 1999; Newton: Lin, Lin and Weng, Machine Learning 68, 2007.
    """

    name: Literal["platt"] = "platt"
    smoothing: bool = True

    def _fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedScaling:
        self._need(labels, both=not self.smoothing)
        targets = labels
        if self.smoothing:
            positive = float(labels @ weights)
            negative = float(weights.sum()) - positive
            high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)
            targets = labels * high + (1 - labels) * low
        columns = np.stack([logit(scores), np.ones(len(scores))])
        theta = fit_logistic(
            columns, weights * targets, weights * (1 - targets), np.array([1.0, 0.0])
        )
        return FittedScaling(*theta)
