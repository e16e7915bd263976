"""Counting numbers in cells of a grid on their ordered bits, in a hash table: compiled loops.

A double's bits, read as an integer with those of negative numbers flipped, are in the order of the
numbers. Its *cell* at a shift s are these bits without the last s: cells are as wide as a fixed
share of the numbers in them, 2^(s − 52) or less.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = [
    "CELL",
    "HIGH",
    "LOW",
    "WEIGHT",
    "add_values",
    "from_ordered",
    "group",
    "insert_cells",
    "smallest_shift",
    "to_ordered",
]

CELL, WEIGHT, LOW, HIGH = 0, 1, 2, 3
"""Columns of a table of cells, int64 ``(capacity, 4)``; an entry of weight 0 is free."""

_FLIP = np.int64(0x7FFF_FFFF_FFFF_FFFF)
_EXPONENT = np.int64(0x7FF0_0000_0000_0000)
_NEGATIVE_ZERO = np.int64(-(2**63))
_SPREAD = np.uint64(0x9E37_79B9_7F4A_7C15)


def to_ordered(x: np.ndarray) -> np.ndarray:
    """Return integers in the order of float64 numbers, −0 as 0: int64 of the same shape."""
    bits = (np.ascontiguousarray(x, np.float64) + 0.0).view(np.int64)
    return bits ^ ((bits >> 63) & _FLIP)


def from_ordered(keys: np.ndarray) -> np.ndarray:
    """Return the numbers whose `to_ordered` is given."""
    return (keys ^ ((keys >> 63) & _FLIP)).view(np.float64)


@numba.njit(inline="always")
def _home(cell: np.int64, bits: np.int64) -> np.int64:
    return np.int64((np.uint64(cell) * _SPREAD) >> np.uint64(64 - bits))


@numba.njit(nogil=True, cache=True)
def add_values(
    bits: np.ndarray,
    weights: np.ndarray,
    one: int,
    first: int,
    table: np.ndarray,
    table_bits: int,
    shift: int,
    used: int,
    room: int,
) -> tuple[int, int, int, int]:
    """Count float64 `bits` from position `first` on; stop when `room` cells are used.

    `weights` int64 ``(n,)``, or empty for `one` each; a weight of 0 is left out.
    Returns the position after the last value taken, the cells used, the values counted and the
    values missing (NaN or infinite) among those taken.
    """
    mask = np.int64(table.shape[0] - 1)
    counted = missing = 0
    weighted = weights.size > 0
    for i in range(first, bits.size):
        b = bits[i]
        if (b & _EXPONENT) == _EXPONENT:
            missing += 1
            continue
        weight = weights[i] if weighted else one
        if weight == 0:
            continue
        key = np.int64(0) if b == _NEGATIVE_ZERO else b ^ ((b >> 63) & _FLIP)
        cell = key >> shift
        at = _home(cell, table_bits)
        while table[at, WEIGHT] != 0 and table[at, CELL] != cell:
            at = (at + 1) & mask
        if table[at, WEIGHT] == 0:
            if used == room:
                return i, used, counted, missing
            table[at, CELL] = cell
            table[at, LOW] = key
            table[at, HIGH] = key
            used += 1
        table[at, WEIGHT] += weight
        table[at, LOW] = min(table[at, LOW], key)
        table[at, HIGH] = max(table[at, HIGH], key)
        counted += 1
    return bits.size, used, counted, missing


@numba.njit(nogil=True, cache=True)
def insert_cells(cells: np.ndarray, table: np.ndarray, table_bits: int) -> None:
    """Put distinct cells, int64 ``(n, 4)``, into an empty table that has room for them."""
    mask = np.int64(table.shape[0] - 1)
    for i in range(cells.shape[0]):
        at = _home(cells[i, CELL], table_bits)
        while table[at, WEIGHT] != 0:
            at = (at + 1) & mask
        for j in range(4):
            table[at, j] = cells[i, j]


@numba.njit(nogil=True, cache=True)
def smallest_shift(cells: np.ndarray, most: int) -> int:
    """Return by how many more bits to shift sorted `cells` so that at most `most` are left."""
    # Two neighbours fall together once all bits in which they differ are gone.
    falling = np.zeros(65, np.int64)
    for i in range(cells.size - 1):
        differing = np.uint64(cells[i] ^ cells[i + 1])
        length = 0
        while differing != 0:
            differing >>= np.uint64(1)
            length += 1
        falling[length] += 1
    left = cells.size
    for shift in range(65):
        left -= falling[shift]
        if left <= most:
            return shift
    return 64


@numba.njit(nogil=True, cache=True)
def group(cells: np.ndarray, shift: int) -> np.ndarray:
    """Return sorted cells, int64 ``(n, 4)``, `shift` bits coarser, those that are equal as one."""
    out = np.empty_like(cells)
    n = 0
    for i in range(cells.shape[0]):
        cell = cells[i, CELL] >> shift
        if n > 0 and out[n - 1, CELL] == cell:
            out[n - 1, WEIGHT] += cells[i, WEIGHT]
            out[n - 1, LOW] = min(out[n - 1, LOW], cells[i, LOW])
            out[n - 1, HIGH] = max(out[n - 1, HIGH], cells[i, HIGH])
        else:
            out[n, CELL] = cell
            out[n, WEIGHT] = cells[i, WEIGHT]
            out[n, LOW] = cells[i, LOW]
            out[n, HIGH] = cells[i, HIGH]
            n += 1
    return out[:n].copy()
