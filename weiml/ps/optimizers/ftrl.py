"""FTRL-proximal: sparse weights by L1, a rate per weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.ps.kernels import ftrl_weight
from weiml.ps.memory import floats
from weiml.ps.optimizers.base import (
    Optimizer,
    check_not_negative,
    check_positive,
    step_arrays,
)
from weiml.ps.optimizers.rows import prefetch_row

__all__ = ["FTRL"]


@dataclass(frozen=True, kw_only=True)
class FTRL(Optimizer):
    """FTRL-proximal with per-coordinate learning rates; state (z, n).

    ``g`` the gradient: ``sigma = (sqrt(n + g²) - sqrt(n)) / alpha``, ``z += g - sigma w``,
    ``n += g²``; the weight is ``0 if |z| <= l1 else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha
    + l2)``. With squares Q = Σg², Q takes the place of g².

    McMahan, Holt, Sculley et al., "Ad click prediction: a view from the trenches", KDD 2013.
    """

    name: Literal["ftrl"] = "ftrl"
    alpha: float = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2
    multiplicity: ClassVar[bool] = True
    stores_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("ftrl", alpha=self.alpha)
        check_not_negative("ftrl", beta=self.beta, l1=self.l1, l2=self.l2)
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
        _, _, l1, _ = self.scalars
        steepness = np.float32(self.beta / self.alpha + self.l2)
        z = -(weights * steepness + np.sign(weights) * l1)
        return np.concatenate([z, np.zeros_like(z)], axis=1, dtype=np.float32)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        where, g, _, q = step_arrays(addresses, grads, None, squares)
        _apply(where, g, q, *self.scalars)

    def read(self, addresses: np.ndarray, dim: int) -> np.ndarray:
        """Return the weights float32 (n, dim) that (z, n) stand for; see `Optimizer.read`."""
        return np.asarray(_read(np.ascontiguousarray(addresses, np.int64), dim, *self.scalars))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    grads: np.ndarray,
    squares: np.ndarray | None,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, 2 * dim)
        row = floats(addresses[i], 2 * dim)
        for c in range(dim):
            g = grads[i, c]
            z = row[c]
            n = row[dim + c]
            w = ftrl_weight(z, n, alpha, beta, l1, l2)
            grown = n + (g * g if squares is None else squares[i, c])
            sigma = (math.sqrt(grown) - math.sqrt(n)) / alpha
            row[c] = z + g - sigma * w
            row[dim + c] = grown


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
        row = floats(addresses[i], 2 * dim)
        for c in range(dim):
            out[i, c] = ftrl_weight(row[c], row[dim + c], alpha, beta, l1, l2)
    return out
