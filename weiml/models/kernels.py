"""Compiled loops over a batch's sparse part: sums and pooling.

They know arrays only. `positions` tells the row of each key, below 0 for a key without a row, which
counts as zeros. Fast-math stays off: every process must compute the same bits.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = [
    "key_counts",
    "linear_gradients",
    "linear_sums",
    "pool",
    "pool_gradients",
    "sigmoid",
]

_ONE = np.float32(1)
_ZERO = np.float32(0)


@numba.njit(cache=True, nogil=True)
def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) of float32 (B,), without overflow."""
    out = np.empty(logits.size, np.float32)
    for i in range(logits.size):
        x = logits[i]
        e = math.exp(-abs(x))
        out[i] = _ONE / (_ONE + e) if x >= _ZERO else e / (_ONE + e)
    return out


@numba.njit(cache=True, nogil=True)
def linear_sums(
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
) -> np.ndarray:
    """Return float32 (B,): for each example the sum of its keys' weights times values.

    Example b owns ``positions[starts[b] : starts[b + 1]]``; `weights` is (rows, 1).
    """
    out = np.empty(starts.size - 1, np.float32)
    for b in range(out.size):
        total = _ZERO
        for j in range(starts[b], starts[b + 1]):
            row = positions[j]
            if row >= 0:
                value = _ONE if values is None else values[j]
                total += weights[row, 0] * value
        out[b] = total
    return out


@numba.njit(cache=True, nogil=True)
def pool(
    weights: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
    out: np.ndarray,
) -> None:
    """Write each cell's sum (or mean) of rows to `out`.

    Cell c, one slot of one example, owns ``positions[offsets[c] : offsets[c + 1]]``; `weights` is
    (rows, dim). `out` is float32 (B, at least S·dim): cell (b, s) goes to columns s·dim onwards.
    """
    dim = weights.shape[1]
    num_slots = (offsets.size - 1) // max(out.shape[0], 1)
    for b in range(out.shape[0]):
        for s in range(num_slots):
            first = offsets[b * num_slots + s]
            last = offsets[b * num_slots + s + 1]
            at = s * dim
            for c in range(dim):
                out[b, at + c] = _ZERO
            for j in range(first, last):
                row = positions[j]
                if row >= 0:
                    value = _ONE if values is None else values[j]
                    for c in range(dim):
                        out[b, at + c] += weights[row, c] * value
            if mean and last - first > 1:
                share = _ONE / np.float32(last - first)
                for c in range(dim):
                    out[b, at + c] *= share


@numba.njit(cache=True, nogil=True)
def pool_gradients(
    gradients: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    mean: bool,
    num_rows: int,
    dim: int,
) -> np.ndarray:
    """Return float32 (num_rows, dim): the gradients of `pool`'s rows from those of its output."""
    out = np.zeros((num_rows, dim), np.float32)
    num_slots = (offsets.size - 1) // max(gradients.shape[0], 1)
    for b in range(gradients.shape[0]):
        for s in range(num_slots):
            first = offsets[b * num_slots + s]
            last = offsets[b * num_slots + s + 1]
            at = s * dim
            share = _ONE
            if mean and last - first > 1:
                share = _ONE / np.float32(last - first)
            for j in range(first, last):
                row = positions[j]
                factor = share if values is None else share * values[j]
                for c in range(dim):
                    out[row, c] += gradients[b, at + c] * factor
    return out


@numba.njit(cache=True, nogil=True)
def key_counts(positions: np.ndarray, num_rows: int) -> np.ndarray:
    """Return float32 (num_rows,): how often each row occurs in `positions`."""
    out = np.zeros(num_rows, np.float32)
    for j in range(positions.size):
        out[positions[j]] += _ONE
    return out


@numba.njit(cache=True, nogil=True)
def linear_gradients(
    gradients: np.ndarray,
    positions: np.ndarray,
    values: np.ndarray | None,
    starts: np.ndarray,
    num_rows: int,
) -> np.ndarray:
    """Return float32 (num_rows, 1): the gradients of `linear_sums`' rows from those of its sums."""
    out = np.zeros((num_rows, 1), np.float32)
    for b in range(gradients.size):
        for j in range(starts[b], starts[b + 1]):
            value = _ONE if values is None else values[j]
            out[positions[j], 0] += gradients[b] * value
    return out
