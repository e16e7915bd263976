"""Compiled loops of `RowStore` for rows that come sorted by hash: no search and no shifting.

How slots lie in raw memory, and what `homes` and `shape` say, tells `row_search`; `fill` is
described in `row_store_kernels`.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.rows.memory import load_u64, store_u32, store_u64
from weiml.ps.rows.search import home_of

__all__ = ["append_rows", "count_appendable"]

_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@numba.njit(inline="always")
def _behind(homes: np.ndarray, fill: np.ndarray, bucket: int, slot: int) -> int:
    """Return the address behind the last row of a bucket that has rows."""
    at = homes[bucket, 0] + fill[bucket, 2] * slot
    while load_u64(at - slot) == _ZERO:
        at -= slot
    return at


@numba.njit(cache=True, nogil=True)
def count_appendable(
    homes: np.ndarray, fill: np.ndarray, shape: np.ndarray, keys: np.ndarray, counts: np.ndarray
) -> int:
    """Return how many of the first `keys` are sorted by hash and behind all rows of their buckets.

    ``counts[b]``, zero before, becomes the number of those in bucket b.
    """
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    current = np.int64(-1)
    last = _ZERO
    for i in range(keys.size):
        h = mix64(keys[i])
        bucket = np.int64(h >> shift)
        if i > 0 and h <= last:
            return i
        if bucket != current:
            current = bucket
            if fill[bucket, 0]:
                stored = load_u64(_behind(homes, fill, bucket, slot) - slot)
                if (h << bits) >> bits <= stored - _ONE:
                    return i
        last = h
        counts[bucket] += 1
    return keys.size


@numba.njit(cache=True, nogil=True)
def append_rows(
    homes: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    keys: np.ndarray,
    payload: np.ndarray,
) -> int:
    """Write rows that `count_appendable` approved of; return how many fitted their buckets."""
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    stride = slot * shape[2]
    current = np.int64(-1)
    free = end = np.int64(0)
    for i in range(keys.size):
        h = mix64(keys[i])
        bucket = np.int64(h >> shift)
        if bucket != current:
            current = bucket
            end = homes[bucket, 0] + fill[bucket, 2] * slot
            free = _behind(homes, fill, bucket, slot) if fill[bucket, 0] else homes[bucket, 0]
        at = max(free, home_of(homes, np.uint64(bucket), h << bits, stride))
        if at >= end or fill[bucket, 0] >= fill[bucket, 1]:
            return i
        store_u64(at, ((h << bits) >> bits) + _ONE)
        for k in range(payload.shape[1]):
            store_u32(at + 8 + 4 * k, payload[i, k])
        fill[bucket, 0] += 1
        free = at + slot
    return keys.size
