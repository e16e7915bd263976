"""The largest value that was ever pushed: for what is merged rather than learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numba
import numpy as np

from weiml.ps.optimizers.base import Optimizer, step_arrays
from weiml.ps.optimizers.rows import prefetch_row
from weiml.ps.rows.memory import floats

__all__ = ["Maximum"]


@dataclass(frozen=True, kw_only=True)
class Maximum(Optimizer):
    """The running maximum; state w: ``w = max(w, g)``, where g is a value, not a gradient.

    The order of pushes does not matter, nor that of workers, nor whether one acts twice, so the
    rows are right under any clock. Rows start at 0 (unless `init_scale` says otherwise): what is
    pushed should not be negative. Counts and squares mean nothing here.
    """

    name: Literal["max"] = "max"

    sums: ClassVar[bool] = False
    columns: ClassVar[int] = 1
    adds: ClassVar[bool] = False

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
        """Raise the rows in place to `grads`; see `Optimizer.apply`."""
        addresses, grads, *_ = step_arrays(addresses, grads, None, None)
        _apply(addresses, grads)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(addresses: np.ndarray, grads: np.ndarray) -> None:
    dim = grads.shape[1]
    for i in range(addresses.size):
        prefetch_row(addresses, i, dim)
        w = floats(addresses[i], dim)
        for c in range(dim):
            w[c] = max(w[c], grads[i, c])
