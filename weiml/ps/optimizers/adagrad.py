"""Adagrad: a rate per weight that shrinks with the gradients seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.ps.optimizers.base import (
    Optimizer,
    check_not_negative,
    check_positive,
    step_arrays,
)
from weiml.ps.optimizers.multiplicity import damping, tempered
from weiml.ps.optimizers.rows import prefetch_row
from weiml.ps.rows.memory import floats

__all__ = ["Adagrad"]

_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """Adagrad; state (w, s): ``s += g²``, ``w -= lr g / sqrt(s)``, where s starts at `initial_sum`.

    With c examples, the sum G of their gradients and Q of their squares: ``s += Q``, then
    ``w -= r G / (1 + coupling (c - 1) r Q / c)`` with ``r = lr / sqrt(s)``.

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12, 2011. The state is a sum, so differences of it may be pushed too.
    """

    name: Literal["adagrad"] = "adagrad"
    lr: float = 0.05
    initial_sum: float = 0.1
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2
    squares: ClassVar[int | None] = 1
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("adagrad", lr=self.lr, initial_sum=self.initial_sum)
        check_not_negative("adagrad", coupling=self.coupling)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, initial_sum)."""
        sums = np.full_like(weights, self.initial_sum)
        return np.concatenate([weights, sums], axis=1, dtype=np.float32)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        arrays = step_arrays(addresses, grads, counts, squares)
        _apply(*arrays, np.float32(self.lr), np.float32(self.coupling))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    lr: np.float32,
    coupling: np.float32,
) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        w = floats(addresses[i], dim)
        s = floats(addresses[i] + 4 * dim, dim)
        gs = grads[i]
        qs = grads[i] if squares is None else squares[i]
        count = _ONE if counts is None else max(counts[i], _ONE)
        share = _ONE / count
        damp = damping(count, coupling)
        for c in range(dim):
            g = gs[c]
            q = g * g * share
            if squares is not None:
                q = qs[c] if counts is None else max(qs[c], q)
            total = s[c] + q
            root = math.sqrt(total)
            if counts is not None:
                g = tempered(g, q, lr / root, damp)
            s[c] = total
            w[c] -= lr * g / root
