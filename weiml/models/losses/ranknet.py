"""RankNet: every pair of a group in which one label is above the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from weiml.models.losses.base import GroupedLoss
from weiml.models.losses.logistic import logistic
from weiml.ps.optimizers.base import check_positive

__all__ = ["RankNet"]


@dataclass(frozen=True, kw_only=True)
class RankNet(GroupedLoss):
    """For example i, the mean of ``w_i log(1 + exp(−s (x_i − x_j)))`` over j with a lower label.

    All j are of the group of i. A mean, so that a group counts by its positives and not by its
    pairs. What is compared counts as i's loss; `weight` is the sum of w_i over those that have any
    j. It takes time with the square of a group's size.

    Burges et al., "Learning to Rank using Gradient Descent", ICML 2005.
    """

    name: Literal["ranknet"] = "ranknet"
    scale: float = 1.0
    """s: how sharply a difference of logits tells the order."""

    def __post_init__(self) -> None:
        check_positive("loss ranknet", scale=self.scale)

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
        return _fill(order, bounds, logits, labels, weights, self.scale, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    order: np.ndarray,
    bounds: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    scale: float,
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
            share = w / (lower - first)
            value = 0.0
            for b in range(first, lower):
                j = order[b]
                p, _, plus = logistic(-scale * (float(logits[i]) - float(logits[j])))
                value += plus
                slopes[i] -= share * scale * p
                slopes[j] += share * scale * p
            values[i] = share * value
            total += share * value
            mass += w
    gradients[:] = slopes
    return total, mass
