"""Focal loss: cross-entropy that turns from what is known already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.models.calibration.logistic import softplus, squash
from weiml.models.losses.base import PointwiseLoss
from weiml.models.losses.logistic import logistic
from weiml.ps.optimizers.base import check_not_negative, check_positive

__all__ = ["Focal"]


@dataclass(frozen=True, kw_only=True)
class Focal(PointwiseLoss):
    """With p = sigmoid(x), ``w (−a y (1 − p)^γ log p − b (1 − y) p^γ log(1 − p))``.

    The gradient of a positive is ``−a (1 − p)^γ (1 − p − γ p log p)``, that of a negative the same
    mirrored. a is ``pos_weight`` and b 1; with `alpha`, a is ``alpha pos_weight`` and b is
    ``1 − alpha``. γ = 0 is cross-entropy.

    Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017. Where
    the expected loss is least, the sigmoid is not the probability but nearer to one half;
    `probabilities` undoes that (Charoenphakdee et al., "On Focal Loss for Class-Posterior
    Probability Estimation", CVPR 2021).
    """

    name: Literal["focal"] = "focal"
    gamma: float = 2.0
    alpha: float | None = None
    pos_weight: float = 1.0

    calibrated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_not_negative("loss focal", gamma=self.gamma)
        check_positive("loss focal", pos_weight=self.pos_weight)
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ConfigError(f"loss focal: alpha must lie between 0 and 1, got {self.alpha!r}")

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return float32 probabilities η at which the logits have the least expected loss.

        There η times a positive's pull equals 1 − η times a negative's:
        ``logit η = γ x + log(p − γ q log q) − log(q − γ p log p) + log(b / a)``, q = 1 − p.
        """
        x = np.asarray(logits, np.float64)
        p, q = squash(x), squash(-x)
        up, down = self._factors()
        pulls = p + self.gamma * q * softplus(x), q + self.gamma * p * softplus(-x)
        with np.errstate(divide="ignore"):  # beyond ±700 a pull is 0, the probability 0 or 1
            odds = self.gamma * x + np.log(pulls[0]) - np.log(pulls[1]) + math.log(down / up)
        return squash(odds).astype(np.float32)

    def _factors(self) -> tuple[float, float]:
        if self.alpha is None:
            return self.pos_weight, 1.0
        return self.alpha * self.pos_weight, 1.0 - self.alpha

    def _each(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        factors = self._factors()
        return _fill(logits, labels, weights, self.gamma, *factors, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    gamma: float,
    of_positives: float,
    of_negatives: float,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    total, mass = 0.0, 0.0
    for i in range(logits.size):
        if weights[i] > 0:
            x, w = float(logits[i]), float(weights[i])
            p, q, plus = logistic(x)
            up = of_positives * labels[i] * q**gamma
            down = of_negatives * (1.0 - labels[i]) * p**gamma
            value = w * (up * (plus - x) + down * plus)
            values[i] = value
            gradients[i] = w * (down * (p + gamma * q * plus) - up * (q + gamma * p * (plus - x)))
            total += value
            mass += w
    return total, mass
