"""Adam, lazy: moments and their bias belong to the row, and move only when it does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.ps.optimizers.base import (
    Optimizer,
    check_fraction,
    check_not_negative,
    check_positive,
    step_arrays,
)
from weiml.ps.optimizers.multiplicity import damping, power, tempered
from weiml.ps.optimizers.rows import prefetch_row
from weiml.ps.rows.memory import floats

__all__ = ["Adam", "adam_apply", "adam_state"]

_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam, lazy and bias-corrected per row; state (w, m, v) and per row (a, b).

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g²``,
    ``w -= lr (m / a) / (sqrt(v / b) + epsilon)``, where a and b are the corrections
    ``1 - beta1^t`` and ``1 - beta2^t`` of a row at its own t-th gradient. They are kept as moving
    averages of ones, ``a = beta1 a + (1 - beta1)``, which are as exact after the thousand-millionth
    gradient as after the first.

    With c examples it is c steps with their mean gradient, in closed form. G and Q the sums of
    gradients and of their squares: ``v = beta2^c v + (1 - beta2^c) Q / c`` and b alike;
    ``r = lr / (sqrt(v / b) + epsilon)``; ``h = G / (1 + coupling (c - 1) r Q / c) / c``; the first
    moments of the c steps come to ``M = k m + (c - k) h`` with
    ``k = beta1 (1 - beta1^c) / (1 - beta1)``, their corrections to ``A = k a + (c - k)``;
    ``w -= r c M / A``; then ``m = beta1^c m + (1 - beta1^c) h`` and a alike.

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    name: Literal["adam"] = "adam"
    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = False
    columns: ClassVar[int] = 3
    extras: ClassVar[int] = 2
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("adam", lr=self.lr, epsilon=self.epsilon)
        check_fraction("adam", beta1=self.beta1, beta2=self.beta2)
        check_not_negative("adam", coupling=self.coupling)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, 0, 0) and (0, 0)."""
        return adam_state(weights)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        adam_apply(
            *step_arrays(addresses, grads, counts, squares),
            np.float32(self.lr),
            np.float32(self.beta1),
            np.float32(self.beta2),
            np.float32(self.epsilon),
            _ONE,
            np.float32(self.coupling),
        )


def adam_state(weights: np.ndarray) -> np.ndarray:
    """Return float32 (n, 3·dim + 2): new rows of Adam with `weights` (n, dim)."""
    count, dim = weights.shape
    state = np.zeros((count, 3 * dim + 2), np.float32)
    state[:, :dim] = weights
    return state


@numba.njit(cache=True, nogil=True, error_model="numpy")
def adam_apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    lr: np.float32,
    beta1: np.float32,
    beta2: np.float32,
    epsilon: np.float32,
    shrink: np.float32,
    coupling: np.float32,
) -> None:
    """Apply gradients (n, dim) to Adam's rows, whose weights each step first times `shrink`."""
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 3 * dim + 2)
        w = floats(addresses[i], dim)
        m = floats(addresses[i] + 4 * dim, dim)
        v = floats(addresses[i] + 8 * dim, dim)
        corrections = floats(addresses[i] + 12 * dim, 2)
        gs = grads[i]
        qs = grads[i] if squares is None else squares[i]
        count = _ONE if counts is None else max(counts[i], _ONE)
        share = _ONE / count
        kept1 = beta1 if counts is None else power(beta1, count)
        kept2 = beta2 if counts is None else power(beta2, count)
        shrunk = shrink if counts is None else power(shrink, count)
        lag = beta1 * ((_ONE - kept1) / (_ONE - beta1))
        rest = count - lag
        of_first = (lag * corrections[0] + rest) * share
        of_second = kept2 * corrections[1] + (_ONE - kept2)
        damp = damping(count, coupling)
        for c in range(dim):
            h = gs[c]
            q = h * h * share
            if squares is not None:
                q = qs[c] if counts is None else max(qs[c], q)
            second = kept2 * v[c] + (_ONE - kept2) * (q * share)
            rate = lr / (math.sqrt(second / of_second) + epsilon)
            if counts is not None:
                h = tempered(h, q, rate, damp) * share
            moments = lag * m[c] + rest * h
            m[c] = kept1 * m[c] + (_ONE - kept1) * h
            v[c] = second
            w[c] = shrunk * w[c] - rate * (moments / of_first)
        corrections[0] = kept1 * corrections[0] + (_ONE - kept1)
        corrections[1] = of_second
