"""LambdaRank: pairs weighted by what their exchange would change in NDCG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.models.losses.base import GroupedLoss
from weiml.models.losses.logistic import logistic

__all__ = ["LambdaRank"]


@dataclass(frozen=True, kw_only=True)
class LambdaRank(GroupedLoss):
    """For example i, ``w_i Σ_j |ΔNDCG_ij| log(1 + exp(−(x_i − x_j)))`` over j with a lower label.

    ΔNDCG is what exchanging i and j in the order by logits changes in the group's NDCG, with gains
    = labels as in `weiml.models.ndcg_at_k`; it counts as a constant in the gradient. It takes time
    with the square of a group's size.

    Burges, Ragno and Le, "Learning to Rank with Nonsmooth Cost Functions", NIPS 2006; as a loss:
    Wang, Li, Golbandi, Bendersky and Najork, "The LambdaLoss Framework", CIKM 2018.
    """

    name: Literal["lambdarank"] = "lambdarank"
    k: int = 0
    """Of NDCG@k; 0 takes all places."""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"loss lambdarank: k must be 0 (all places) or more, got {self.k}")

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
        k = self.k or logits.size
        return _fill(order, bounds, logits, labels, weights, k, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    order: np.ndarray,
    bounds: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    k: int,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    total, mass = 0.0, 0.0
    slopes = np.zeros(logits.size)
    for g in range(bounds.size - 1):
        members = order[bounds[g] : bounds[g + 1]]
        discounts, ideal = _places(members, logits, labels, k)
        lower = 0
        for a in range(members.size):
            i = members[a]
            if a and labels[i] != labels[members[a - 1]]:
                lower = a  # those before have lower labels
            if not lower:
                continue
            w = float(weights[i])
            value = 0.0
            for b in range(lower):
                j = members[b]
                change = abs((labels[i] - labels[j]) * (discounts[a] - discounts[b])) / ideal
                p, _, plus = logistic(float(logits[j]) - float(logits[i]))
                value += change * plus
                slopes[i] -= w * change * p
                slopes[j] += w * change * p
            values[i] = w * value
            total += w * value
            mass += w
    gradients[:] = slopes
    return total, mass


@numba.njit(cache=True, nogil=True)
def _places(
    members: np.ndarray, logits: np.ndarray, labels: np.ndarray, k: int
) -> tuple[np.ndarray, float]:
    """Return each member's discount in the order by logits, and the group's best DCG.

    Members come by rising label.
    """
    count = members.size
    ranks = np.argsort(-logits[members], kind="mergesort")
    discounts = np.zeros(count)
    ideal = 0.0
    for place in range(min(k, count)):
        discount = 1.0 / math.log2(place + 2.0)
        discounts[ranks[place]] = discount
        ideal += discount * labels[members[count - 1 - place]]
    return discounts, ideal
