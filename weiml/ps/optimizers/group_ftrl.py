"""FTRL with a sparse group lasso: whole rows go to zero, so that features are selected."""

from __future__ import annotations

import math
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
from weiml.ps.optimizers.rows import prefetch_row
from weiml.ps.rows.memory import floats

__all__ = ["GroupFTRL"]

_ZERO = np.float32(0)
_ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True)
class GroupFTRL(Optimizer):
    """FTRL-proximal (see `FTRL`) whose row is one group; state (z, n).

    The state moves as FTRL's does. The weights are, with s the z shrunk by `l1`, that is
    ``s = sign(z) max(|z| - l1, 0)``, and ``||s||`` the norm of the row's s: all 0 where
    ``||s|| <= l21 sqrt(dim)``, else ``-(1 - l21 sqrt(dim) / ||s||) s / ((beta + sqrt(n)) / alpha +
    l2)``. With `l21` = 0 it is FTRL. Counts and squares act as in FTRL.

    Ni, Yu, Wu et al., "Feature selection for Facebook feed ranking system via a
    group-sparsity-regularized training algorithm", CIKM 2019; the closed form for both lassos
    together is that of Yue, Liu, Tong et al., "Adaptive optimizers with sparse group lasso for
    neural networks in CTR prediction", ECML PKDD 2021. The state is a sum, so differences of it may
    be pushed too.
    """

    name: Literal["group_ftrl"] = "group_ftrl"
    alpha: float = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l21: float = 0.0
    l2: float = 0.0
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2
    squares: ClassVar[int | None] = 1
    multiplicity: ClassVar[bool] = True
    stores_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("group_ftrl", alpha=self.alpha)
        check_not_negative(
            "group_ftrl",
            beta=self.beta,
            l1=self.l1,
            l21=self.l21,
            l2=self.l2,
            coupling=self.coupling,
        )
        if self.beta == 0 and self.l2 == 0:
            raise ConfigError(
                "group_ftrl: beta and l2 are both 0, which divides by zero at a row's first "
                "weight; set beta (1 is usual)"
            )

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (z, n = 0) such that the rows' weights are `weights`, to a rounding."""
        wide = np.asarray(weights, np.float64)
        norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        steepness = self.beta / self.alpha + self.l2
        group = self.l21 * math.sqrt(weights.shape[1])
        grown = wide * (steepness + np.divide(group, norms, out=norms, where=norms > 0))
        z = -(grown + np.sign(wide) * self.l1)
        return np.concatenate([z, np.zeros_like(z)], axis=1, dtype=np.float32)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        arrays = step_arrays(addresses, grads, counts, squares)
        _apply(*arrays, *self._scalars(grads.shape[1]), np.float32(self.coupling))

    def read(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the weights float32 (n, dim) that (z, n) stand for; see `Optimizer.read`."""
        where = np.ascontiguousarray(addresses, np.int64)
        return np.asarray(_read(where, dim, *self._scalars(dim)))

    def _scalars(self, dim: int) -> tuple[np.float32, ...]:
        """Return (alpha, beta, l1, l21 sqrt(dim), l2) as float32."""
        group = self.l21 * math.sqrt(dim)
        values = (self.alpha, self.beta, self.l1, group, self.l2)
        return tuple(np.float32(value) for value in values)


@numba.njit(inline="always")
def _soft(z: np.float32, l1: np.float32) -> np.float32:
    return max(z - l1, _ZERO) + min(z + l1, _ZERO)


@numba.njit(inline="always")
def _left(z: np.ndarray, l1: np.float32, group: np.float32) -> np.float32:
    """Return what the group lasso leaves of a row, 0 … 1."""
    total = _ZERO
    for c in range(z.size):
        total += _soft(z[c], l1) * _soft(z[c], l1)
    norm = math.sqrt(total)
    return _ZERO if norm <= group else _ONE - group / norm


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    counts: np.ndarray | None,
    squares: np.ndarray | None,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    group: np.float32,
    l2: np.float32,
    coupling: np.float32,
) -> None:
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
        left = _left(z, l1, group)
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
            shrunk = left * _soft(z[c], l1)
            z[c] += g + (grown_root - root) * shrunk / (beta + root + alpha * l2)
            n[c] = grown


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _read(
    addresses: np.ndarray,
    dim: int,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    group: np.float32,
    l2: np.float32,
) -> np.ndarray:
    out = np.empty((addresses.size, dim), np.float32)
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        z = floats(addresses[i], dim)
        n = floats(addresses[i] + 4 * dim, dim)
        left = alpha * _left(z, l1, group)
        for c in range(dim):
            out[i, c] = (_ZERO - left * _soft(z[c], l1)) / (beta + math.sqrt(n[c]) + alpha * l2)
    return out
