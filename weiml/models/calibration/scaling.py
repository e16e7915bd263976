"""Calibrations that scale and shift log-odds; all fitted by logistic regression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from weiml.models.calibration.base import FittedCalibration
from weiml.models.calibration.logistic import logit, squash

__all__ = ["FittedScaling", "log_odds"]


class FittedScaling(FittedCalibration):
    """``sigmoid(slope · logit(p) + intercept)``."""

    name: ClassVar[str] = "scaling"

    def __init__(self, slope: float, intercept: float) -> None:
        self.slope = float(slope)
        self.intercept = float(intercept)
        if not math.isfinite(self.slope + self.intercept):
            raise ValueError(f"slope and intercept must be finite, got {slope} and {intercept}")

    def _map(self, scores: np.ndarray) -> np.ndarray:
        return squash(self.slope * logit(scores) + self.intercept)

    def state(self) -> dict[str, Any]:
        """Return slope and intercept."""
        return {"slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make it of what `state` gave."""
        return cls(state["slope"], state["intercept"])


def log_odds(labels: np.ndarray, weights: np.ndarray) -> float:
    """Return the log-odds of the share of positives, where both classes have weight."""
    positive = float(labels @ weights)
    return math.log(positive / (float(weights.sum()) - positive))
