"""Gradient descent with momentum, the heavy ball or Nesterov's."""

from __future__ import annotations

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

__all__ = ["Momentum"]

_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class Momentum(Optimizer):
    """Momentum; state (w, v): ``v = momentum v + g``, ``w -= lr v``.

    With `nesterov`: ``w -= lr (g + momentum v)``. A row that is not named stands still; its
    velocity waits for the next gradient.

    With c examples it is c steps with their mean gradient, in closed form. With m = momentum, G and
    Q the sums of gradients and of their squares, ``h = G / (1 + coupling (c - 1) r Q / c) / c`` for
    ``r = lr / (1 - m)``, and ``k = m (1 - m^c) / (1 - m)``: the velocities of the c steps come to
    ``V = k v + (c - k) / (1 - m) h``; ``v = m^c v + (1 - m^c) / (1 - m) h``; ``w -= lr V``, or
    with `nesterov` ``w -= lr (c h + m V)``.

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Sutskever,
    Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013.
    """

    name: Literal["momentum"] = "momentum"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = False
    columns: ClassVar[int] = 2
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("momentum", lr=self.lr)
        check_fraction("momentum", momentum=self.momentum)
        check_not_negative("momentum", coupling=self.coupling)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, 0)."""
        return np.concatenate([weights, np.zeros_like(weights)], axis=1, dtype=np.float32)

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
        _apply(
            *step_arrays(addresses, grads, counts, squares),
            np.float32(self.lr),
            np.float32(self.momentum),
            self.nesterov,
            np.float32(self.coupling),
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    lr: np.float32,
    momentum: np.float32,
    nesterov: bool,
    coupling: np.float32,
) -> None:
    dim = grads.shape[1]
    room = _ONE - momentum
    rate = lr / room
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        w = floats(addresses[i], dim)
        v = floats(addresses[i] + 4 * dim, dim)
        gs = grads[i]
        qs = grads[i] if squares is None else squares[i]
        count = _ONE if counts is None else max(counts[i], _ONE)
        share = _ONE / count
        kept = momentum if counts is None else power(momentum, count)
        lag = momentum * ((_ONE - kept) / room)
        gain = (count - lag) / room
        push = (_ONE - kept) / room
        damp = damping(count, coupling)
        for c in range(dim):
            h = gs[c]
            if counts is not None:
                q = h * h * share
                if squares is not None:
                    q = max(qs[c], q)
                h = tempered(h, q, rate, damp) * share
            moved = lag * v[c] + gain * h
            if nesterov:
                moved = count * h + momentum * moved
            v[c] = kept * v[c] + push * h
            w[c] -= lr * moved
