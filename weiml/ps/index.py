"""From uint64 keys to row numbers: open addressing in two flat arrays, grown by doubling.

It knows no rows. Rows are numbered 0, 1, 2 … in the order of insertion, so arrays of rows stay
contiguous. Not safe for one writer and other threads at once.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = ["KeyIndex"]

_SMALLEST = 1024  # slots of an empty index
_MAX_LOAD = 0.6  # linear probing stays short below it


@numba.njit(cache=True, nogil=True)
def _find(slot_keys: np.ndarray, slot_rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    mask = np.uint64(slot_rows.size - 1)
    out = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        key = keys[i]
        slot = mix64(key) & mask
        while slot_rows[slot] >= 0 and slot_keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        out[i] = slot_rows[slot]
    return out


@numba.njit(cache=True, nogil=True)
def _insert(
    slot_keys: np.ndarray,
    slot_rows: np.ndarray,
    row_keys: np.ndarray,
    count: int,
    keys: np.ndarray,
    start: int,
    out: np.ndarray,
) -> tuple[int, int]:
    """Look up or insert ``keys[start:]`` until `row_keys` is full: (where it stopped, rows)."""
    mask = np.uint64(slot_rows.size - 1)
    for i in range(start, keys.size):
        key = keys[i]
        slot = mix64(key) & mask
        while slot_rows[slot] >= 0 and slot_keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        if slot_rows[slot] < 0:
            if count == row_keys.size:
                return i, count
            slot_keys[slot] = key
            slot_rows[slot] = count
            row_keys[count] = key
            count += 1
        out[i] = slot_rows[slot]
    return keys.size, count


@numba.njit(cache=True, nogil=True)
def _rehash(slot_keys: np.ndarray, slot_rows: np.ndarray, row_keys: np.ndarray, count: int) -> None:
    mask = np.uint64(slot_rows.size - 1)
    for row in range(count):
        slot = mix64(row_keys[row]) & mask
        while slot_rows[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slot_keys[slot] = row_keys[row]
        slot_rows[slot] = row


class KeyIndex:
    """A set of uint64 keys, each with its row number. Every uint64 is a key, 0 included."""

    def __init__(self) -> None:
        self._count = 0
        self._allocate(_SMALLEST, np.empty(0, np.uint64))

    @classmethod
    def of(cls, keys: np.ndarray) -> KeyIndex:
        """Return an index in which ``keys[i]`` has row i; `keys` must be distinct."""
        index = cls()
        index.find_or_insert(keys)
        return index

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> np.ndarray:
        """The keys by row number: uint64 (len,), a view that the next insertion may leave stale."""
        return self._row_keys[: self._count]

    @property
    def row_capacity(self) -> int:
        """How many rows fit before the index grows."""
        return self._row_keys.size

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, free slots included."""
        return self._slot_keys.nbytes + self._slot_rows.nbytes + self._row_keys.nbytes

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key, -1 where it is missing: int64 (n,)."""
        flat = np.require(keys, np.uint64, ["C", "W"])
        return np.asarray(_find(self._slot_keys, self._slot_rows, flat))

    def find_or_insert(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key, new ones numbered from ``len`` on: int64 (n,)."""
        flat = np.require(keys, np.uint64, ["C", "W"])
        out = np.empty(flat.size, np.int64)
        done = 0
        while True:
            done, self._count = _insert(
                self._slot_keys, self._slot_rows, self._row_keys, self._count, flat, done, out
            )
            if done == flat.size:
                return out
            self._allocate(2 * self._slot_rows.size, self._row_keys)

    def _allocate(self, slots: int, row_keys: np.ndarray) -> None:
        self._slot_keys = np.zeros(slots, np.uint64)
        self._slot_rows = np.full(slots, -1, np.int32)
        self._row_keys = np.empty(int(slots * _MAX_LOAD), np.uint64)
        self._row_keys[: self._count] = row_keys[: self._count]
        _rehash(self._slot_keys, self._slot_rows, self._row_keys, self._count)
