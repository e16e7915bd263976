"""Compiled loops of `RowStore` for rows that come sorted by hash: no search and no shifting.

How slots lie in raw memory, and what `homes` and `shape` say, tells `rows.search`; `fill` is
described in `rows.store_kernels`. Keys (uint64) and payloads (uint32 words) are given by address,
for they may lie where nobody may write.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.rows.memory import load_u32, load_u64, store_u32, store_u64
from weiml.ps.rows.search import multiply_high

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
    homes: np.ndarray, fill: np.ndarray, shape: np.ndarray, keys: int, n: int, counts: np.ndarray
) -> None:
    """Count by bucket how many of n keys are sorted by hash and behind all rows of their buckets.

    The first that is not ends the count, which is added to ``counts``.
    """
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    current = np.int64(-1)
    last = _ZERO
    for i in range(n):
        h = mix64(load_u64(keys + 8 * i))
        bucket = np.int64(h >> shift)
        if i > 0 and h <= last:
            return
        if bucket != current:
            current = bucket
            if fill[bucket, 0]:
                stored = load_u64(_behind(homes, fill, bucket, slot) - slot)
                if (h << bits) >> bits <= stored - _ONE:
                    return
        last = h
        counts[bucket] += 1


@numba.njit(cache=True, nogil=True)
def append_rows(
    homes: np.ndarray, fill: np.ndarray, shape: np.ndarray, keys: int, payload: int, n: int
) -> tuple[int, bool]:
    """Write n rows, up to the first that is not sorted by hash and behind all of its bucket.

    Returns how many were written, and whether it was for want of room that the next was not.
    """
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    stride = slot * shape[2]
    words = (slot - 8) // 4
    current = np.int64(-1)
    start = free = end = room = np.int64(0)
    groups = last = _ZERO
    for i in range(n):
        h = mix64(load_u64(keys + 8 * i))
        bucket = np.int64(h >> shift)
        if i > 0 and h <= last:
            return i, False
        if bucket != current:
            current = bucket
            start = free = homes[bucket, 0]
            groups = np.uint64(homes[bucket, 1])
            end = start + fill[bucket, 2] * slot
            room = fill[bucket, 1] - fill[bucket, 0]
            if fill[bucket, 0]:
                free = _behind(homes, fill, bucket, slot)
                if (h << bits) >> bits <= load_u64(free - slot) - _ONE:
                    return i, False
        at = max(free, start + np.int64(multiply_high(h << bits, groups)) * stride)
        if at >= end or room <= 0:
            return i, True
        store_u64(at, ((h << bits) >> bits) + _ONE)
        if words == 2:
            store_u64(at + 8, load_u64(payload + 8 * i))
        else:
            for k in range(words):
                store_u32(at + 8 + 4 * k, load_u32(payload + 4 * (words * i + k)))
        fill[bucket, 0] += 1
        room -= 1
        free = at + slot
        last = h
    return n, False
