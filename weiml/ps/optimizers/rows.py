"""Compiled copies between rows in memory and matrices, and the way to hand a matrix's rows out.

They know addresses and float32 only. The caller vouches for the addresses.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np

from weiml.ps.rows.memory import address_of, floats, prefetch

__all__ = ["matrix_addresses", "prefetch_row", "read_rows", "turns", "write_rows"]

_AHEAD = 8
_LINE = 64


@numba.njit(inline="always")
def prefetch_row(addresses: np.ndarray, i: int, width: int) -> None:
    """Ask for the `width` float32 of the row a few places after the i-th, from its second line on.

    Its first line came into cache when the row was looked up.
    """
    if i + _AHEAD < addresses.size:
        for offset in range(_LINE, width * 4, _LINE):
            prefetch(addresses[i + _AHEAD] + offset)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def read_rows(addresses: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return float32 (n, count): numbers `first` … `first` + `count` - 1 of each row."""
    out = np.empty((addresses.size, count), np.float32)
    if count == 1:
        for i in range(addresses.size):
            out[i, 0] = floats(addresses[i] + first * 4, 1)[0]
        return out
    for i in range(addresses.size):
        prefetch_row(addresses, i, first + count)
        row = floats(addresses[i] + first * 4, count)
        for c in range(count):
            out[i, c] = row[c]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def write_rows(addresses: np.ndarray, state: np.ndarray) -> None:
    """Write `state` float32 (n, width) to the rows, in order."""
    width = state.shape[1]
    for i in range(addresses.size):
        row = floats(addresses[i], width)
        for c in range(width):
            row[c] = state[i, c]


def matrix_addresses(matrix: np.ndarray) -> np.ndarray:
    """Return the addresses int64 (n,) of the rows of a C-contiguous float32 (n, width).

    They are good while the caller holds the matrix.
    """
    start = address_of(matrix) if matrix.size else 0
    return start + np.arange(len(matrix), dtype=np.int64) * (matrix.shape[1] * 4)


def turns(addresses: np.ndarray) -> Iterator[np.ndarray]:
    """Yield index arrays that take each address once at most; together they take all, in order."""
    order = np.argsort(addresses, kind="stable")
    ordered = addresses[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    lengths = np.diff(starts, append=len(ordered))
    occurrence = np.empty(len(ordered), np.int64)
    occurrence[order] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    for turn in range(int(lengths.max(initial=0))):
        yield np.flatnonzero(occurrence == turn)
