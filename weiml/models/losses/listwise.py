"""Softmax cross-entropy over a group: which of its examples is the one?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from weiml.models.losses.base import GroupedLoss

__all__ = ["Listwise"]


@dataclass(frozen=True, kw_only=True)
class Listwise(GroupedLoss):
    """For each group ``−Σ_i w_i t_i log softmax(x)_i``, with targets t that sum to 1.

    With `target` "share", t is ``y_i / Σ y``: the softmax cross-entropy; groups without a positive
    say nothing. With "softmax", t is the softmax of the labels: ListNet. Groups of one example say
    nothing. The gradient is ``softmax(x)_i Σ_k w_k t_k − w_i t_i``; `weight` is the sum of w t.

    Cao, Qin, Liu, Tsai and Li, "Learning to Rank: From Pairwise Approach to Listwise Approach",
    ICML 2007; Bruch et al., "An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank
    with Binary Relevance", ICTIR 2019.
    """

    name: Literal["listwise"] = "listwise"
    target: Literal["share", "softmax"] = "share"

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
        softmax = self.target == "softmax"
        return _fill(order, bounds, logits, labels, weights, softmax, values, gradients)


@numba.njit(cache=True, nogil=True)
def _fill(
    order: np.ndarray,
    bounds: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    softmax: bool,
    values: np.ndarray,
    gradients: np.ndarray,
) -> tuple[float, float]:
    total, mass = 0.0, 0.0
    for g in range(bounds.size - 1):
        members = order[bounds[g] : bounds[g + 1]]
        if members.size < 2:
            continue
        aims = 0.0
        for i in members:
            aims += math.exp(labels[i]) if softmax else float(labels[i])
        if aims <= 0:
            continue
        largest = -math.inf
        for i in members:
            largest = max(largest, float(logits[i]))
        whole, pull = 0.0, 0.0
        for i in members:
            whole += math.exp(float(logits[i]) - largest)
            pull += weights[i] * (math.exp(labels[i]) if softmax else float(labels[i])) / aims
        for i in members:
            aim = weights[i] * (math.exp(labels[i]) if softmax else float(labels[i])) / aims
            x = float(logits[i]) - largest
            value = aim * (math.log(whole) - x)
            values[i] = value
            gradients[i] = pull * (math.exp(x) / whole) - aim
            total += value
        mass += pull
    return total, mass
