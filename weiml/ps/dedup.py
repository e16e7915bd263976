"""Distinct keys of a batch, and sums of rows by key: what a worker does before it pushes."""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps import kernels

__all__ = ["sum_by_key", "unique_keys"]


@numba.njit(cache=True, nogil=True)
def _unique(keys: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    size = 16
    while size < 2 * keys.size:
        size *= 2
    mask = np.uint64(size - 1)
    places = np.full(size, np.int32(-1), np.int32)  # slot -> number of the distinct key, -1 empty
    distinct = np.empty(keys.size, np.uint64)
    count = 0
    for i in range(keys.size):
        key = keys[i]
        slot = mix64(key) & mask
        while True:
            place = places[slot]
            if place < 0:
                places[slot] = count
                distinct[count] = key
                inverse[i] = count
                count += 1
                break
            if distinct[place] == key:
                inverse[i] = place
                break
            slot = (slot + np.uint64(1)) & mask
    return distinct[:count].copy()


def unique_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct keys uint64 (m,) in order of first appearance, inverse int32 (n,)).

    ``distinct[inverse] == keys``. Any uint64 is a key, 0 included.
    """
    flat = np.require(keys, np.uint64, ["C", "W"])
    inverse = np.empty(flat.size, np.int32)
    return np.asarray(_unique(flat, inverse)), inverse


def sum_by_key(values: np.ndarray, inverse: np.ndarray, num_keys: int) -> np.ndarray:
    """Return float32 (num_keys, dim): the sums of `values` (n, dim) that share an `inverse` (n,).

    The values of a key are added in the order in which they stand, so the bits do not vary.
    """
    rows = np.require(values, np.float32, ["C", "W"])
    places = np.require(inverse, np.int32, ["C", "W"])
    return np.asarray(kernels.merge_rows(rows, places, num_keys))
