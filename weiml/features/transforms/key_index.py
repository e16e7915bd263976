"""Positions of 64-bit keys: a hash table that is built once and only read after."""

from __future__ import annotations

import numba
import numpy as np

from weiml.errors import DataError
from weiml.hashing import mix64

__all__ = ["KeyIndex"]


class KeyIndex:
    """Finds distinct keys other than 0. Immutable, so thread-safe; picklable.

    Raises:
        DataError: a key is 0 or stands twice.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.size = keys.size
        bits = max(4, int(2 * keys.size).bit_length())
        self._table = np.zeros(1 << bits, np.uint64)
        self._places = np.zeros(1 << bits, np.int32)
        if not _fill(np.ascontiguousarray(keys, np.uint64), self._table, self._places):
            raise DataError("an index of keys needs different keys other than 0")

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return each key's position among those given, −1 where it is not: int32 ``(n,)``."""
        return np.asarray(_find(keys, self._table, self._places))


@numba.njit(nogil=True, cache=True)
def _fill(keys: np.ndarray, table: np.ndarray, places: np.ndarray) -> bool:
    mask = np.uint64(table.size - 1)
    for i in range(keys.size):
        at = mix64(keys[i]) & mask
        while table[at] != 0 and table[at] != keys[i]:
            at = (at + np.uint64(1)) & mask
        if table[at] == keys[i]:  # also if both are 0
            return False
        table[at] = keys[i]
        places[at] = i
    return True


@numba.njit(nogil=True, cache=True)
def _find(keys: np.ndarray, table: np.ndarray, places: np.ndarray) -> np.ndarray:
    mask = np.uint64(table.size - 1)
    out = np.empty(keys.size, np.int32)
    for i in range(keys.size):
        at = mix64(keys[i]) & mask
        while table[at] != 0 and table[at] != keys[i]:
            at = (at + np.uint64(1)) & mask
        out[i] = places[at] if table[at] != 0 else -1
    return out
