"""Adagrad: a rate per weight that shrinks with the gradients seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.ps.memory import floats
from weiml.ps.optimizers.base import Optimizer, check_positive, step_arrays
from weiml.ps.optimizers.rows import prefetch_row

__all__ = ["Adagrad"]


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """Adagrad; state (w, s): ``s += g²``, ``w -= lr g / sqrt(s)``, where s starts at `initial_sum`.

    With squares Q = Σg² it is ``s += Q``. Duchi, Hazan and Singer, "Adaptive subgradient methods
    for online learning and stochastic optimization", JMLR 12, 2011. The state is a sum, so
    differences of it may be pushed too.
    """

    name: Literal["adagrad"] = "adagrad"
    lr: float = 0.05
    initial_sum: float = 0.1

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("adagrad", lr=self.lr, initial_sum=self.initial_sum)

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
        where, g, _, q = step_arrays(addresses, grads, None, squares)
        _apply(where, g, q, np.float32(self.lr))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray, grads: np.ndarray, squares: np.ndarray | None, lr: np.float32
) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        row = floats(addresses[i], 2 * dim)
        for c in range(dim):
            g = grads[i, c]
            total = row[dim + c] + (g * g if squares is None else squares[i, c])
            row[dim + c] = total
            row[c] -= lr * g / math.sqrt(total)
