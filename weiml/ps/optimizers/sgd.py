"""Stochastic gradient descent."""

from __future__ import annotations

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

__all__ = ["SGD"]

_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent; state w: ``w -= lr g`` (Robbins and Monro, 1951).

    With c examples, the sum G of their gradients and Q of their squares:
    ``w -= lr G / (1 + coupling (c - 1) lr Q / c)``.
    """

    name: Literal["sgd"] = "sgd"
    lr: float = 0.05
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 1
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("sgd", lr=self.lr)
        check_not_negative("sgd", coupling=self.coupling)

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
        if counts is None:
            squares = None  # of no use here
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
        prefetch_row(addresses, i, dim)
        w = floats(addresses[i], dim)
        gs = grads[i]
        qs = grads[i] if squares is None else squares[i]
        count = _ONE if counts is None else max(counts[i], _ONE)
        share = _ONE / count
        damp = damping(count, coupling)
        for c in range(dim):
            g = gs[c]
            if counts is not None:
                q = g * g * share
                if squares is not None:
                    q = max(qs[c], q)
                g = tempered(g, q, lr, damp)
            w[c] -= lr * g
