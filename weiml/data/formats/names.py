"""Names found by their bytes within compiled loops: an open-addressing table over a few strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

__all__ = ["NameTable", "find_name", "name_table"]

_BASIS = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)


class NameTable(NamedTuple):
    """A table from names to their places; arrays only, so that compiled code takes it."""

    data: np.ndarray  # uint8: all names, one after the other
    offsets: np.ndarray  # int64 (names + 1,)
    slots: np.ndarray  # int64 (a power of two,): a place, or -1


def name_table(names: Sequence[bytes]) -> NameTable:
    """Return the table of names that differ; `find_name` gives their places in this order."""
    data = np.frombuffer(b"".join(names), np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(name) for name in names])]).astype(np.int64)
    slots = np.full(1 << max(2 * len(names), 2).bit_length(), -1, np.int64)
    for place in range(len(names)):
        slot = int(_hash(data, offsets[place], offsets[place + 1])) & (len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = place
    return NameTable(data, offsets, slots)


@numba.njit(nogil=True, cache=True)
def _hash(data: np.ndarray, start: int, stop: int) -> np.uint64:
    """Return FNV-1a, 64 bits, of ``data[start:stop]``, its high bits folded down."""
    value = _BASIS
    for i in range(start, stop):
        value = (value ^ np.uint64(data[i])) * _PRIME
    return value ^ (value >> np.uint64(32))


@numba.njit(nogil=True, cache=True)
def _same(
    data: np.ndarray, start: int, stop: int, names: np.ndarray, offsets: np.ndarray, place: int
) -> bool:
    first = offsets[place]
    if offsets[place + 1] - first != stop - start:
        return False
    for i in range(stop - start):  # noqa: SIM110 - compiled
        if data[start + i] != names[first + i]:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def find_name(
    data: np.ndarray,
    start: int,
    stop: int,
    names: np.ndarray,
    offsets: np.ndarray,
    slots: np.ndarray,
    guess: int,
) -> int:
    """Return the place of the name ``data[start:stop]``, trying `guess` first; -1 if unknown."""
    if guess >= 0 and _same(data, start, stop, names, offsets, guess):
        return guess
    mask = slots.size - 1
    slot = np.int64(_hash(data, start, stop) & np.uint64(mask))
    while slots[slot] >= 0:
        if _same(data, start, stop, names, offsets, slots[slot]):
            return slots[slot]
        slot = (slot + 1) & mask
    return -1
