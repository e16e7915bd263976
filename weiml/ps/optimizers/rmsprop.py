"""RMSProp: steps measured by a moving average of squared gradients."""

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

__all__ = ["RMSProp"]

_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class RMSProp(Optimizer):
    """RMSProp; state (w, v): ``v = rho v + (1 - rho) g²``, ``w -= lr g / (sqrt(v) + epsilon)``.

    v starts at `initial_square`. At 0 the first step of a row is ``lr / sqrt(1 - rho)``, whatever
    its gradient; 1 keeps the first steps of rare rows small.

    With c examples, the sum G of their gradients and Q of their squares, the average forgets c
    times and takes in their mean square: ``v = rho^c v + (1 - rho^c) Q / c``, then
    ``w -= r G / (1 + coupling (c - 1) r Q / c)`` with ``r = lr / (sqrt(v) + epsilon)``.

    Tieleman and Hinton, "Lecture 6.5: RMSProp", Neural networks for machine learning, 2012.
    """

    name: Literal["rmsprop"] = "rmsprop"
    lr: float = 0.001
    rho: float = 0.99
    epsilon: float = 1e-7
    initial_square: float = 0.0
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = False
    columns: ClassVar[int] = 2
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("rmsprop", lr=self.lr, epsilon=self.epsilon)
        check_fraction("rmsprop", rho=self.rho)
        check_not_negative("rmsprop", initial_square=self.initial_square, coupling=self.coupling)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, initial_square)."""
        squares = np.full_like(weights, self.initial_square)
        return np.concatenate([weights, squares], axis=1, dtype=np.float32)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        _apply(
            *step_arrays(addresses, grads, counts, squares),
            np.float32(self.lr),
            np.float32(self.rho),
            np.float32(self.epsilon),
            np.float32(self.coupling),
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    lr: np.float32,
    rho: np.float32,
    epsilon: np.float32,
    coupling: np.float32,
) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        w = floats(addresses[i], dim)
        v = floats(addresses[i] + 4 * dim, dim)
        gs = grads[i]
        qs = grads[i] if squares is None else squares[i]
        count = _ONE if counts is None else max(counts[i], _ONE)
        share = _ONE / count
        kept = rho if counts is None else power(rho, count)
        damp = damping(count, coupling)
        for c in range(dim):
            g = gs[c]
            q = g * g * share
            if squares is not None:
                q = qs[c] if counts is None else max(qs[c], q)
            mean = kept * v[c] + (_ONE - kept) * (q * share)
            root = math.sqrt(mean) + epsilon
            if counts is not None:
                g = tempered(g, q, lr / root, damp)
            v[c] = mean
            w[c] -= lr * g / root
