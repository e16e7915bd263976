"""Compiled loops of factorization machines: products of pairs of rows, and their derivatives.

They know arrays only, and read rows where they lie: no row is copied for every example that has it.
Cell c, one slot of one example, owns ``positions[offsets[c] : offsets[c + 1]]``; a position below 0
has no row and counts as zeros. With `mean`, the values of a cell are shares of its keys' number.
Fast-math stays off: every process must compute the same bits. So sums that belong together are kept
side by side in vectors, and added up last.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["field_gradients", "field_pairs", "square_gradients", "square_sums"]

_ONE = np.float32(1)
_TWO = np.float32(2)
_ZERO = np.float32(0)
_HALF = np.float32(0.5)


@numba.njit(inline="always")
def _value(values: np.ndarray | None, j: int, share: np.float32) -> np.float32:
    return share if values is None else share * values[j]


@numba.njit(inline="always")
def _share(count: int, mean: bool) -> np.float32:
    return _ONE / np.float32(count) if mean and count > 1 else _ONE


@numba.njit(cache=True, nogil=True, error_model="numpy")
def square_sums(
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
    out: np.ndarray,
) -> None:
    """Write s = Σ_k v_k x_k, then q = Σ_k |v_k x_k|², of each example.

    `weights` is (rows, dim), `out` float32 (B, at least dim + 1).
    """
    dim = weights.shape[1]
    num_slots = (offsets.size - 1) // max(out.shape[0], 1)
    sums = np.empty(dim, np.float32)
    squares = np.empty(dim, np.float32)
    for b in range(out.shape[0]):
        for c in range(dim):
            sums[c] = _ZERO
            squares[c] = _ZERO
        for cell in range(b * num_slots, (b + 1) * num_slots):
            first, last = offsets[cell], offsets[cell + 1]
            share = _share(last - first, mean)
            for j in range(first, last):
                row = positions[j]
                if row >= 0:
                    x = _value(values, j, share)
                    for c in range(dim):
                        v = weights[row, c] * x
                        sums[c] += v
                        squares[c] += v * v
        total = _ZERO
        for c in range(dim):
            out[b, c] = sums[c]
            total += squares[c]
        out[b, dim] = total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def square_gradients(
    gradients: np.ndarray,
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
) -> np.ndarray:
    """Return float32 (rows, dim): the gradients of `square_sums`' rows from those of its output.

    ``dv_k = x_k ds + 2 x_k² v_k dq``; every position must have a row.
    """
    dim = weights.shape[1]
    out = np.zeros_like(weights)
    num_slots = (offsets.size - 1) // max(gradients.shape[0], 1)
    for b in range(gradients.shape[0]):
        along = gradients[b]
        twice = _TWO * along[dim]
        for cell in range(b * num_slots, (b + 1) * num_slots):
            first, last = offsets[cell], offsets[cell + 1]
            share = _share(last - first, mean)
            for j in range(first, last):
                row, to = weights[positions[j]], out[positions[j]]
                x = _value(values, j, share)
                factor = twice * x
                for c in range(dim):
                    to[c] += x * (along[c] + factor * row[c])
    return out


@numba.njit(inline="always")
def _pool_fields(
    b: int,
    num_fields: int,
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
    pooled: np.ndarray,
) -> None:
    """Write Σ_k v_k x_k of each field of example b to `pooled` (fields, fields · k)."""
    for f in range(num_fields):
        first, last = offsets[b * num_fields + f], offsets[b * num_fields + f + 1]
        share = _share(last - first, mean)
        fresh = True
        for j in range(first, last):
            row = positions[j]
            if row >= 0:
                x = _value(values, j, share)
                if fresh:
                    for c in range(weights.shape[1]):
                        pooled[f, c] = weights[row, c] * x
                    fresh = False
                else:
                    for c in range(weights.shape[1]):
                        pooled[f, c] += weights[row, c] * x
        if fresh:
            for c in range(weights.shape[1]):
                pooled[f, c] = _ZERO


@numba.njit(cache=True, nogil=True, error_model="numpy")
def field_pairs(
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
    num_fields: int,
    lanes: tuple[int, ...],
    out: np.ndarray,
) -> None:
    """Write Σ_{i<j} <v_{i, field of j}, v_{j, field of i}> x_i x_j to column 0 of `out` (B, …).

    `weights` is (rows, fields · k): the vector of a row that meets keys of field f begins at f k.
    Rows of a field are pooled first, so an example costs fields² k, however many keys it has.
    `lanes` is any tuple of k numbers: the loop is compiled for each k, as a vector.
    """
    k = len(lanes)
    pooled = np.empty((num_fields, num_fields * k), np.float32)
    sums = np.empty(k, np.float32)
    for b in range(out.shape[0]):
        _pool_fields(b, num_fields, weights, positions, values, offsets, mean, pooled)
        for c in range(k):
            sums[c] = _ZERO
        for f in range(num_fields):
            for g in range(f + 1, num_fields):
                for c in range(k):
                    sums[c] += pooled[f, g * k + c] * pooled[g, f * k + c]
        total = _ZERO
        for c in range(k):
            total += sums[c]
        for f in range(num_fields):  # pairs inside a field: half of square of sum - sum of squares
            first, last = offsets[b * num_fields + f], offsets[b * num_fields + f + 1]
            if last - first > 1:
                share = _share(last - first, mean)
                inside = _ZERO
                for c in range(f * k, (f + 1) * k):
                    inside += pooled[f, c] * pooled[f, c]
                    for j in range(first, last):
                        if positions[j] >= 0:
                            v = weights[positions[j], c] * _value(values, j, share)
                            inside -= v * v
                total += _HALF * inside
        out[b, 0] = total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def field_gradients(
    gradients: np.ndarray,
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
    num_fields: int,
) -> np.ndarray:
    """Return float32 (rows, fields · k): the gradients of `field_pairs`' rows.

    From those of its output, column 0 of `gradients` (B, …). Every position must have a row.
    """
    k = weights.shape[1] // num_fields
    out = np.zeros_like(weights)
    pooled = np.empty((num_fields, num_fields * k), np.float32)
    for b in range(gradients.shape[0]):
        slope = gradients[b, 0]
        _pool_fields(b, num_fields, weights, positions, values, offsets, mean, pooled)
        for f in range(num_fields):
            first, last = offsets[b * num_fields + f], offsets[b * num_fields + f + 1]
            share = _share(last - first, mean)
            for j in range(first, last):
                row = positions[j]
                x = _value(values, j, share)
                factor = x * slope
                for g in range(num_fields):
                    for c in range(k):
                        out[row, g * k + c] += factor * pooled[g, f * k + c]
                for c in range(f * k, (f + 1) * k):  # a key does not meet itself
                    out[row, c] -= factor * x * weights[row, c]
    return out
