"""Compiled loops of a sparse layer whose inputs are scaled by their running maxima.

They know arrays only. Example b owns ``positions[starts[b] : starts[b + 1]]``; a position below 0
has no row and counts as nothing. A row is a key's n weights w, then its bias u. Fast-math stays
off: every process must compute the same bits.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["EPSILON", "max_norm_gradients", "max_norm_sums", "raise_maxima"]

EPSILON = np.float32(1e-5)
"""The least that a value is divided by."""
_ONE = np.float32(1)
_ZERO = np.float32(0)


@numba.njit(inline="always")
def _scaled(values: np.ndarray | None, j: int, maximum: np.float32) -> np.float32:
    """Return x / m in [-1, 1], where a larger x than m is its own maximum."""
    x = _ONE if values is None else values[j]
    return x / max(maximum, abs(x), EPSILON)


@numba.njit(cache=True, nogil=True)
def raise_maxima(
    maxima: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
    example_weights: np.ndarray,
) -> np.ndarray:
    """Raise `maxima` (rows, 1) to the largest |x| of each row; return which grew: bool (rows,).

    Examples without weight teach nothing.
    """
    grew = np.zeros(maxima.shape[0], np.bool_)
    for b in range(example_weights.size):
        if example_weights[b] > _ZERO:
            for j in range(starts[b], starts[b + 1]):
                size = _ONE if values is None else abs(values[j])
                if size > maxima[positions[j], 0]:
                    maxima[positions[j], 0] = size
                    grew[positions[j]] = True
    return grew


@numba.njit(cache=True, nogil=True, error_model="numpy")
def max_norm_sums(
    rows: np.ndarray,
    maxima: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write Σ_k (x_k / m_k + u_k) w_k to the first n columns of `out` float32 (B, at least n).

    `rows` is (rows, n + 1), `maxima` (rows, 1).
    """
    n = rows.shape[1] - 1
    for b in range(out.shape[0]):
        sums = out[b]
        for c in range(n):
            sums[c] = _ZERO
        for j in range(starts[b], starts[b + 1]):
            if positions[j] >= 0:
                row = rows[positions[j]]
                x = _scaled(values, j, maxima[positions[j], 0]) + row[n]
                for c in range(n):
                    sums[c] += x * row[c]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def max_norm_gradients(
    gradients: np.ndarray,
    rows: np.ndarray,
    maxima: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
) -> np.ndarray:
    """Return float32 (rows, n + 1): gradients of the rows from those of `max_norm_sums`' output.

    The maxima are taken as constants. Every position must have a row.
    """
    n = rows.shape[1] - 1
    out = np.zeros_like(rows)
    products = np.empty(n, np.float32)
    for b in range(gradients.shape[0]):
        along = gradients[b]
        for j in range(starts[b], starts[b + 1]):
            row, to = rows[positions[j]], out[positions[j]]
            x = _scaled(values, j, maxima[positions[j], 0]) + row[n]
            for c in range(n):
                to[c] += x * along[c]
                products[c] = row[c] * along[c]
            total = _ZERO
            for c in range(n):
                total += products[c]
            to[n] += total
    return out
