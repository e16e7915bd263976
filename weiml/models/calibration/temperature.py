"""Temperature scaling: log-odds divided by one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from weiml.models.calibration.base import Calibration
from weiml.models.calibration.logistic import fit_logistic, logit
from weiml.models.calibration.scaling import FittedScaling, log_odds

__all__ = ["Temperature"]


@dataclass(frozen=True, kw_only=True)
class Temperature(Calibration):
    """``sigmoid(logit(p) / τ)`` with the least cross-entropy; with `bias`, ``… + b``.

    1/τ is 0 or more, so the order never turns. Without `bias` one half stays one half: right for
    overconfident networks, wrong for shifted rates.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """

    name: Literal["temperature"] = "temperature"
    bias: bool = False

    def _fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedScaling:
        self._need(labels, both=True)
        columns = np.stack([logit(scores), np.ones(len(scores))])[: 2 if self.bias else 1]
        theta = fit_logistic(
            columns, weights * labels, weights * (1 - labels), np.array([1.0, 0.0])[: len(columns)]
        )
        if theta[0] < 0:  # the best that does not turn the order knows nothing of it
            return FittedScaling(0.0, log_odds(labels, weights) if self.bias else 0.0)
        return FittedScaling(theta[0], theta[1] if self.bias else 0.0)
