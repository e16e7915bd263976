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
    "sequence_gradients",
    "sequence_places",
    "sequence_rows",
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
            if last - first == 1 and positions[first] >= 0:  # most cells: twice as fast
                row = positions[first]
                value = _ONE if values is None else values[first]
                for c in range(dim):
                    out[b, at + c] = weights[row, c] * value
                continue
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


@numba.njit(cache=True, nogil=True)
def sequence_places(
    positions: np.ndarray,
    offsets: np.ndarray,
    slots: np.ndarray,
    num_examples: int,
    num_slots: int,
    max_length: int,
) -> np.ndarray:
    """Return int32 (B, Q, L): the last L positions of Q slots' cells in order, then -1."""
    out = np.full((num_examples, slots.size, max_length), -1, np.int32)
    for b in range(num_examples):
        for q in range(slots.size):
            cell = b * num_slots + slots[q]
            last = offsets[cell + 1]
            first = max(offsets[cell], last - max_length)
            for j in range(first, last):
                out[b, q, j - first] = positions[j]
    return out


@numba.njit(cache=True, nogil=True)
def sequence_rows(weights: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return float32 (B, Q, L, dim): the rows at `places`, zeros where there is none."""
    B, Q, L = places.shape
    out = np.zeros((B, Q, L, weights.shape[1]), np.float32)
    for b in range(B):
        for q in range(Q):
            for j in range(L):
                row = places[b, q, j]
                if row >= 0:
                    for c in range(weights.shape[1]):
                        out[b, q, j, c] = weights[row, c]
    return out


@numba.njit(cache=True, nogil=True)
def sequence_gradients(gradients: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """Add the gradients of `sequence_rows`' output to those of its rows, `out` (rows, dim)."""
    B, Q, L = places.shape
    for b in range(B):
        for q in range(Q):
            for j in range(L):
                row = places[b, q, j]
                if row >= 0:
                    for c in range(out.shape[1]):
                        out[row, c] += gradients[b, q, j, c]
