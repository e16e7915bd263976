"""Beta calibration: both ends of the scale bent, each by its own number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from weiml.models.calibration.base import Calibration, FittedCalibration
from weiml.models.calibration.logistic import fit_logistic, logit, softplus, squash

__all__ = ["Beta", "FittedBeta"]


class FittedBeta(FittedCalibration):
    """``sigmoid(a log p − b log(1 − p) + c)``."""

    name: ClassVar[str] = "beta"

    def __init__(self, a: float, b: float, c: float) -> None:
        self.a, self.b, self.c = float(a), float(b), float(c)
        if not math.isfinite(self.a + self.b + self.c):
            raise ValueError(f"a, b and c must be finite, got {a}, {b} and {c}")

    def _map(self, scores: np.ndarray) -> np.ndarray:
        return squash(np.array([self.a, self.b, self.c]) @ _columns(scores))

    def state(self) -> dict[str, Any]:
        """Return a, b and c."""
        return {"a": self.a, "b": self.b, "c": self.c}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make it of what `state` gave."""
        return cls(state["a"], state["b"], state["c"])


@dataclass(frozen=True, kw_only=True)
class Beta(Calibration):
    """``sigmoid(a log p − b log(1 − p) + c)`` with the least cross-entropy and a, b ≥ 0.

    With a = b it is scaling of log-odds. It is exact where the scores of either class follow a beta
    distribution, and, unlike `Platt`, has the identity and both bends of an S among its maps.

    Kull, Silva Filho and Flach, "Beyond Sigmoids: How to Obtain Well-Calibrated Probabilities from
    Binary Classifiers with Beta Calibration", EJS 11, 2017.
    """

    name: Literal["beta"] = "beta"

    def _fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedBeta:
        self._need(labels, both=True)
        columns = _columns(scores)
        positive, negative = weights * labels, weights * (1 - labels)
        theta = np.zeros(3)
        free = [0, 1, 2]
        while True:
            theta[:] = 0
            start = np.array([1.0, 1.0, 0.0])[free]
            theta[free] = fit_logistic(columns[free], positive, negative, start)
            falling = [column for column in free if column < 2 and theta[column] < 0]
            if not falling:
                return FittedBeta(*theta)
            # The loss is convex: a bend that would turn the order stays at 0, the worse one first.
            free.remove(min(falling, key=lambda column: float(theta[column])))


def _columns(scores: np.ndarray) -> np.ndarray:
    x = logit(scores)
    return np.stack([-softplus(-x), softplus(x), np.ones(len(x))])
