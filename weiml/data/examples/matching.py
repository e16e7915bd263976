"""Rows of equal keys: an index that finds every pair. Key 0 stands for "missing" and has none."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = ["KeyIndex"]

_FREE = -1


@dataclass(frozen=True)
class KeyIndex:
    """Where each key stands: chains of positions by key, in an open-addressing table."""

    keys: np.ndarray
    heads: np.ndarray
    following: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray) -> KeyIndex:
        """Index uint64 ``(m,)`` keys, repeats too."""
        return cls(keys, *_index(keys))

    def match(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every pair of equal keys as int64 positions: of `keys`, in order, and of ours."""
        lefts, rights = _match(keys, self.keys, self.heads, self.following)
        return lefts, rights


@numba.njit(nogil=True, cache=True)
def _index(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = 1 << 4
    while size < 2 * keys.size:
        size *= 2
    heads = np.full(size, _FREE, np.int64)
    following = np.full(keys.size, _FREE, np.int64)
    for i in range(keys.size - 1, -1, -1):  # from the end, so that chains run forward
        if keys[i] != 0:
            at = _slot(heads, keys, keys[i])
            following[i] = heads[at]
            heads[at] = i
    return heads, following


@numba.njit(nogil=True, cache=True)
def _slot(heads: np.ndarray, keys: np.ndarray, key: np.uint64) -> np.uint64:
    mask = np.uint64(heads.size - 1)
    at = mix64(key) & mask
    while heads[at] != _FREE and keys[heads[at]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@numba.njit(nogil=True, cache=True)
def _match(
    left: np.ndarray, right: np.ndarray, heads: np.ndarray, following: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first = np.full(left.size, _FREE, np.int64)
    total = 0
    for i in range(left.size):
        if left[i] != 0:
            first[i] = heads[_slot(heads, right, left[i])]
            r = first[i]
            while r != _FREE:
                total += 1
                r = following[r]
    lefts = np.empty(total, np.int64)
    rights = np.empty(total, np.int64)
    n = 0
    for i in range(left.size):
        r = first[i]
        while r != _FREE:
            lefts[n] = i
            rights[n] = r
            n += 1
            r = following[r]
    return lefts, rights
