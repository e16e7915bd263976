"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.ps.memory import floats
from weiml.ps.optimizers.base import Optimizer, check_positive, step_arrays
from weiml.ps.optimizers.rows import prefetch_row

__all__ = ["SGD"]


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent; state w: ``w -= lr g`` (Robbins and Monro, 1951)."""

    name: Literal["sgd"] = "sgd"
    lr: float = 0.05

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive("sgd", lr=self.lr)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return w."""
        return np.array(weights, np.float32)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        where, g, _, _ = step_arrays(addresses, grads, None, None)
        _apply(where, g, np.float32(self.lr))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(addresses: np.ndarray, grads: np.ndarray, lr: np.float32) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, dim)
        row = floats(addresses[i], dim)
        for c in range(dim):
            row[c] -= lr * grads[i, c]
