"""FTRL-proximal: sparse weights by L1, a rate per weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.ps.kernels import ftrl_weight
from weiml.ps.optimizers.base import (
    Optimizer,
    check_not_negative,
    check_positive,
    step_arrays,
)
from weiml.ps.optimizers.ftrl_single import (
    apply_block,
    apply_single,
    read_block,
    read_single,
)
from weiml.ps.optimizers.multiplicity import damping, tempered
from weiml.ps.optimizers.rows import prefetch_row
from weiml.ps.rows.blocks import Block
from weiml.ps.rows.memory import floats

__all__ = ["FTRL"]

_ZERO = np.float32(0)
_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class FTRL(Optimizer):
    """FTRL-proximal with per-coordinate learning rates; state (z, n).

    ``g`` the gradient: ``sigma = (sqrt(n + g²) - sqrt(n)) / alpha``, ``z += g - sigma w``,
    ``n += g²``; the weight is ``0 if |z| <= l1 else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha
    + l2)``.

    With c examples, the sum G of their gradients and Q of their squares, Q takes the place of g²
    and ``G / (1 + coupling (c - 1) r Q / c)`` that of g, with ``r = 1 / ((beta + sqrt(n + Q)) /
    alpha + l2)``.

    McMahan, Holt, Sculley et al., "Ad click prediction: a view from the trenches", KDD 2013. The
    state is a sum, so differences of it may be pushed too.
    """

    name: Literal["ftrl"] = "ftrl"
    alpha: float = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2
    squares: ClassVar[int | None] = 1
    multiplicity: ClassVar[bool] = True
    stores_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("ftrl", alpha=self.alpha)
        check_not_negative("ftrl", beta=self.beta, l1=self.l1, l2=self.l2, coupling=self.coupling)
        if self.beta == 0 and self.l2 == 0:
            raise ConfigError(
                "ftrl: beta and l2 are both 0, which divides by zero at a row's first weight; "
                "set beta (1 is usual)"
            )

    @property
    def scalars(self) -> tuple[np.float32, np.float32, np.float32, np.float32]:
        """(alpha, beta, l1, l2) as float32, in the order the ``ftrl_*`` kernels take them."""
        return (
            np.float32(self.alpha),
            np.float32(self.beta),
            np.float32(self.l1),
            np.float32(self.l2),
        )

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (z, n = 0) such that the rows' weights are `weights`, to a rounding."""
        count, dim = weights.shape
        state = np.zeros((count, 2 * dim), np.float32)
        state[:, :dim] -= weights * np.float32(self.beta / self.alpha + self.l2)
        if self.l1 > 0:
            state[:, :dim] -= np.sign(weights) * np.float32(self.l1)
        return state

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        arrays = step_arrays(addresses, grads, counts, squares)
        if grads.shape[1] == 1 and counts is None and squares is None:
            apply_single(*arrays[:2], *self.scalars)
        else:
            _apply(*arrays, *self.scalars, np.float32(self.coupling))

    def read(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the weights float32 (n, dim) that (z, n) stand for; see `Optimizer.read`."""
        addresses = np.ascontiguousarray(addresses, np.int64)
        if dim == 1:
            return np.asarray(read_single(addresses, *self.scalars))
        return np.asarray(_read(addresses, dim, *self.scalars))

    def step_block(self, dim: int) -> Block | None:
        """See `Optimizer.step_block`: for rows of one weight."""
        return (apply_block(), np.array(self.scalars)) if dim == 1 else None

    def read_block(self, dim: int) -> Block | None:
        """See `Optimizer.read_block`: for rows of one weight."""
        return (read_block(), np.array(self.scalars)) if dim == 1 else None


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
    coupling: np.float32,
) -> None:
    # The equations times alpha: sigma w is then one division instead of three.
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        z = floats(addresses[i], dim)
        n = floats(addresses[i] + 4 * dim, dim)
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
            root = math.sqrt(n[c])
            grown = n[c] + q
            grown_root = math.sqrt(grown)
            if counts is not None:
                g = tempered(g, q, alpha / (beta + grown_root + alpha * l2), damp)
            shrunk = max(z[c] - l1, _ZERO) + min(z[c] + l1, _ZERO)
            z[c] += g + (grown_root - root) * shrunk / (beta + root + alpha * l2)
            n[c] = grown


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _read(
    addresses: np.ndarray,
    dim: int,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> np.ndarray:
    out = np.empty((addresses.size, dim), np.float32)
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        z = floats(addresses[i], dim)
        n = floats(addresses[i] + 4 * dim, dim)
        for c in range(dim):
            out[i, c] = ftrl_weight(z[c], n[c], alpha, beta, l1, l2)
    return out
