"""BPR: each positive against a few negatives of its group, drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.models.losses.base import GroupedLoss
from weiml.models.losses.logistic import logistic

__all__ = ["BPR"]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, kw_only=True)
class BPR(GroupedLoss):
    """For example i, the mean over `negatives` drawn j of ``−w_i log sigmoid(x_i − x_j)``.

    Each j is drawn, with replacement, from those of i's group with a lower label. So it is what
    `RankNet` is on average, in time linear in the batch. Draws depend on `seed`, the place of i in
    the batch and the labels alone, so that all processes draw alike.

    Rendle, Freudenthaler, Gantner and Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from
    Implicit Feedback", UAI 2009.
    """

    name: Literal["bpr"] = "bpr"
    negatives: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise ConfigError(f"loss bpr: negatives must be at least 1, got {self.negatives}")
        if self.seed < 0:
            raise ConfigError(f"loss bpr: seed must be 0 or more, got {self.seed}")

    def _within(
        self,
        order: np.ndarray,
        bounds: np.ndarray,
        logits: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        values: np.ndarray,
        gradients: np.ndarray,
    ) -> tuple[float, float]:
        seed = np.uint64(self.seed % 2**64)
        draws = (self.negatives, seed)
        return _fill(order, bounds, logits, labels, weights, *draws, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    order: np.ndarray,
    bounds: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    negatives: int,
    seed: np.uint64,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    total, mass = 0.0, 0.0
    slopes = np.zeros(logits.size)
    for g in range(bounds.size - 1):
        first = lower = bounds[g]
        for a in range(first, bounds[g + 1]):
            i = order[a]
            if a > first and labels[i] != labels[order[a - 1]]:
                lower = a  # those before have lower labels
            if lower == first:
                continue
            w = float(weights[i])
            share = w / negatives
            value = 0.0
            for d in range(negatives):
                drawn = _mixed(seed + np.uint64(i * negatives + d)) % np.uint64(lower - first)
                j = order[first + np.int64(drawn)]
                p, _, plus = logistic(float(logits[j]) - float(logits[i]))
                value += plus
                slopes[i] -= share * p
                slopes[j] += share * p
            values[i] = share * value
            total += share * value
            mass += w
    gradients[:] = slopes
    return total, mass


@numba.njit(cache=True, nogil=True)
def _mixed(number: np.uint64) -> np.uint64:
    """Return one output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (number + np.uint64(1)) * _STEP
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))
