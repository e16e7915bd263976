"""Averaged SGD: gradients act on the last weights, the average of them is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.ps.optimizers.base import (
    Optimizer,
    check_not_negative,
    check_positive,
    step_arrays,
)
from weiml.ps.optimizers.multiplicity import damping, tempered
from weiml.ps.optimizers.rows import prefetch_row, read_rows
from weiml.ps.rows.memory import floats

__all__ = ["ASGD"]

_ZERO = np.float32(0)
_ONE = np.float32(1)
_TWO = np.float32(2)
_MOST = np.float32(2**24)
MAX_FORGET = 16


@dataclass(frozen=True, kw_only=True)
class ASGD(Optimizer):
    """Averaged SGD; state (w, u) and per row t: ``t += 1``, ``w -= lr g``, ``u`` the mean of w.

    ``u += (1 + forget) / (t - start + forget) (w - u)`` after the row's first `start` gradients,
    while which u is w. With `forget` = 0 it is the plain mean of Polyak and Ruppert; larger values
    weigh later weights more, by t to the power `forget`. `read` and `weights` give u, to be served;
    `read_training` and `training_weights` give w, at which a worker takes its gradients.

    t is exact to 2**24 gradients of a row and stays there: from then on u is a moving average over
    about the last 2**24 / (1 + forget).

    With c examples it is c steps, w going straight from its old value to its new one, which is
    that of `SGD` with its `coupling`; u takes the mean of those of the c weights that count.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control
    Optim. 30, 1992; Shamir and Zhang, "Stochastic gradient descent for non-smooth optimization:
    convergence results and optimal averaging schemes", ICML 2013, for `forget`.
    """

    name: Literal["asgd"] = "asgd"
    lr: float = 0.05
    start: int = 0
    forget: int = 0
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = False
    columns: ClassVar[int] = 2
    extras: ClassVar[int] = 1
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("asgd", lr=self.lr)
        check_not_negative("asgd", coupling=self.coupling)
        if not 0 <= self.start < 2**24:
            raise ConfigError(f"asgd: start must be 0 to 2²⁴-1, got {self.start!r}")
        if not 0 <= self.forget <= MAX_FORGET:
            raise ConfigError(f"asgd: forget must be 0 to {MAX_FORGET}, got {self.forget!r}")

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, u = w) and t = 0."""
        steps = np.zeros((len(weights), 1), np.float32)
        return np.concatenate([weights, weights, steps], axis=1, dtype=np.float32)

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
            np.float32(self.start),
            self.forget,
            np.float32(self.coupling),
        )

    def read(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the averages float32 (n, dim); see `Optimizer.read`."""
        return np.asarray(read_rows(np.ascontiguousarray(addresses, np.int64), dim, dim))

    def read_training(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the last weights float32 (n, dim); see `Optimizer.read_training`."""
        return np.asarray(read_rows(np.ascontiguousarray(addresses, np.int64), 0, dim))


@numba.njit(inline="always")
def _portion(before: np.float32, count: np.float32, forget: int) -> np.float32:
    """Return the weight of `count` more steps in an average of `before` steps: 1 when it is 0.

    ``1 - Π (before + j) / (before + count + j)`` over j = 0 … forget: the product is what `count`
    single steps, each of weight ``(1 + forget) / (t + forget)``, leave of the average before them.
    """
    portion = _ZERO
    for j in range(forget + 1):
        part = count / (before + count + np.float32(j))
        portion += part - portion * part
    return portion


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    lr: np.float32,
    start: np.float32,
    forget: int,
    coupling: np.float32,
) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim + 1)
        w = floats(addresses[i], dim)
        u = floats(addresses[i] + 4 * dim, dim)
        steps = floats(addresses[i] + 8 * dim, 1)
        gs = grads[i]
        qs = grads[i] if squares is None else squares[i]
        count = _ONE if counts is None else max(counts[i], _ONE)
        share = _ONE / count
        damp = damping(count, coupling)
        before = steps[0]
        steps[0] = min(before + count, _MOST)
        averaged = min(max(before + count - start, _ZERO), count)
        portion = _ONE
        middle = _ONE  # where between the old weight and the new the mean of those averaged lies
        if averaged > _ZERO:
            portion = _portion(max(before - start, _ZERO), averaged, forget)
            middle = (_TWO * count - averaged + _ONE) / (_TWO * count)
        for c in range(dim):
            g = gs[c]
            if counts is not None:
                q = g * g * share
                if squares is not None:
                    q = max(qs[c], q)
                g = tempered(g, q, lr, damp)
            mean = w[c] - middle * (lr * g)
            w[c] -= lr * g
            u[c] = mean if portion == _ONE else u[c] + portion * (mean - u[c])
