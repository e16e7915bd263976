"""Compiled loops of `RowStore` that insert, delete, move and scan rows, and copy payloads.

How slots lie in raw memory, and what `homes` and `shape` say, tells `rows.search`. `fill` int64
(buckets, 3): rows, rows at which the bucket must grow, slots that rows may lie in.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64, unmix64
from weiml.ps.rows.memory import (
    load_u32,
    load_u64,
    move_bytes,
    prefetch,
    store_u32,
    store_u64,
)
from weiml.ps.rows.search import AHEAD, find_rows, home_of

__all__ = [
    "buckets_of",
    "copy_payloads",
    "delete_rows",
    "insert_rows",
    "keys_in",
    "move_buckets",
    "read_rows",
    "scan_buckets",
    "set_payloads",
]

_STAGED = 128  # slots of a bucket that moves, taken together
_TOGETHER = 2048  # rows found and then copied: what a search looks at fits into the cache
_MOVED = 512  # bytes asked for ahead of an insertion: about what it moves
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@numba.njit(cache=True, nogil=True)
def insert_rows(
    homes: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    keys: np.ndarray,
    which: np.ndarray,
    touched: np.ndarray,
    new: np.ndarray,
    refused: np.ndarray,
) -> tuple[int, int]:
    """Insert ``keys[which]`` that are missing: (how many are new, how many a full bucket refused).

    `new` and `refused` (of the size of `which`) receive their positions in `keys`; ``touched[b]``
    becomes True where rows of bucket b may have moved.
    """
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    stride = slot * shape[2]
    made = failed = 0
    for i in range(which.size + AHEAD):
        if i < which.size:
            h = mix64(keys[which[i]])
            ahead = home_of(homes, h >> shift, h << bits, stride)
            for offset in range(0, _MOVED, 64):
                prefetch(ahead + offset)
        if i < AHEAD:
            continue
        position = which[i - AHEAD]
        h = mix64(keys[position])
        bucket = h >> shift
        tag = (h << bits) >> bits
        at = home_of(homes, bucket, h << bits, stride)
        found = load_u64(at) - _ONE
        while found < tag:
            at += slot
            found = load_u64(at) - _ONE
        if found == tag:
            continue
        end = at
        while load_u64(end) != _ZERO:
            end += slot
        # The order matters: a bucket without slots has no memory of its own behind `end`.
        if fill[bucket, 0] >= fill[bucket, 1] or end >= homes[bucket, 0] + fill[bucket, 2] * slot:
            refused[failed] = position
            failed += 1
            continue
        if end > at:
            move_bytes(at + slot, at, end - at)
        store_u64(at, tag + _ONE)
        for k in range(8, slot, 4):
            store_u32(at + k, np.uint32(0))
        fill[bucket, 0] += 1
        touched[bucket] = True
        new[made] = position
        made += 1
    return made, failed


@numba.njit(cache=True, nogil=True)
def delete_rows(
    homes: np.ndarray, fill: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray
) -> None:
    """Delete keys; ``out[i]`` says whether ``keys[i]`` was there. Later slots close the gap."""
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    stride = slot * shape[2]
    for i in range(keys.size):
        h = mix64(keys[i])
        bucket = h >> shift
        tag = (h << bits) >> bits
        at = home_of(homes, bucket, h << bits, stride)
        found = load_u64(at) - _ONE
        while found < tag:
            at += slot
            found = load_u64(at) - _ONE
        out[i] = found == tag
        if found != tag:
            continue
        end = at + slot
        while True:
            found = load_u64(end)
            if found == _ZERO or home_of(homes, bucket, (found - _ONE) << bits, stride) >= end:
                break
            end += slot
        move_bytes(at, at + slot, end - at - slot)
        store_u64(end - slot, _ZERO)
        fill[bucket, 0] -= 1


@numba.njit(inline="always")
def _copy_slot(target: int, source: int, slot: int) -> None:
    if slot == 16:
        store_u64(target, load_u64(source))
        store_u64(target + 8, load_u64(source + 8))
    elif slot < 64:
        for k in range(0, slot, 4):
            store_u32(target + k, load_u32(source + k))
    else:
        move_bytes(target, source, slot)


@numba.njit(cache=True, nogil=True)
def move_buckets(
    old: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    buckets: np.ndarray,
    new: np.ndarray,
    room: np.ndarray,
) -> int:
    """Copy `buckets` from where ``old[buckets]`` says to where ``new[i]`` says, in one pass each.

    `new` int64 (n, 2) is as `homes`, ``room[i]`` the slots that rows may lie in there. Returns the
    place in `buckets` of the first that does not fit its tail, or their number.

    Three loops over a few slots at a time, so that no branch depends on which are empty and nothing
    waits for the place of a row but its copy.
    """
    bits = np.uint64(shape[0])
    slot = shape[1]
    stride = slot * shape[2]
    tags = np.empty(_STAGED, np.uint64)
    sources = np.empty(_STAGED, np.int64)
    homes = np.empty(_STAGED, np.int64)
    for i in range(buckets.size):
        bucket = buckets[i]
        target = new[i, 0]
        end = target + room[i] * slot
        for first in range(0, fill[bucket, 2], _STAGED):
            at = old[bucket, 0] + first * slot
            count = _ZERO
            for _ in range(min(_STAGED, fill[bucket, 2] - first)):
                stored = load_u64(at)
                tags[count] = stored - _ONE
                sources[count] = at
                count += np.uint64(stored != _ZERO)
                at += slot
            taken = np.int64(count)
            for k in range(taken):
                homes[k] = home_of(new, np.uint64(i), tags[k] << bits, stride)
            for k in range(taken):
                target = max(target, homes[k])
                if target >= end:
                    return i
                _copy_slot(target, sources[k], slot)
                target += slot
    return buckets.size


@numba.njit(cache=True, nogil=True)
def scan_buckets(
    homes: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    first: int,
    last: int,
    keys: np.ndarray,
    addresses: np.ndarray,
) -> None:
    """Write key and payload address of every row of the buckets first … last-1, in hash order."""
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    done = 0
    for bucket in range(first, last):
        at = homes[bucket, 0]
        upper = np.uint64(bucket) << shift
        for _ in range(fill[bucket, 0]):
            stored = load_u64(at)
            while stored == _ZERO:
                at += slot
                stored = load_u64(at)
            keys[done] = unmix64(upper | (stored - _ONE))
            addresses[done] = at + 8
            done += 1
            at += slot


@numba.njit(cache=True, nogil=True)
def buckets_of(shape: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the bucket of each key: int64 (n,)."""
    shift = np.uint64(64) - np.uint64(shape[0])
    out = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        out[i] = mix64(keys[i]) >> shift
    return out


@numba.njit(cache=True, nogil=True)
def keys_in(flags: np.ndarray, shape: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the positions of the keys whose bucket is flagged: int64 (m,)."""
    shift = np.uint64(64) - np.uint64(shape[0])
    out = np.empty(keys.size, np.int64)
    count = 0
    for i in range(keys.size):
        out[count] = i
        count += flags[mix64(keys[i]) >> shift]
    return out[:count]


@numba.njit(cache=True, nogil=True)
def copy_payloads(addresses: np.ndarray, out: np.ndarray) -> None:
    """Copy the payloads at `addresses` into `out` uint32 (n, words); zeros at address 0."""
    for i in range(addresses.size):
        for k in range(out.shape[1]):
            out[i, k] = load_u32(addresses[i] + 4 * k) if addresses[i] else np.uint32(0)


@numba.njit(cache=True, nogil=True)
def read_rows(
    homes: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray, found: np.ndarray
) -> None:
    """Copy the payloads of keys into `out` uint32 (n, words), zeros where missing.

    ``found[i]`` says whether ``keys[i]`` is there. Rows are copied while what a search looked at is
    in cache.
    """
    addresses = np.empty(_TOGETHER, np.int64)
    words = out.shape[1]
    target = np.int64(out.ctypes.data)
    for start in range(0, keys.size, _TOGETHER):
        block = keys[start : start + _TOGETHER]
        missing = find_rows(homes, shape, block, addresses[: block.size])
        if missing or words != 2:
            copy_payloads(addresses[: block.size], out[start : start + block.size])
            for i in range(block.size):
                found[start + i] = addresses[i] != 0
        else:
            for i in range(block.size):
                store_u64(target + 8 * (start + i), load_u64(addresses[i]))
            found[start : start + block.size] = True


@numba.njit(cache=True, nogil=True)
def set_payloads(addresses: np.ndarray, payload: np.ndarray) -> None:
    """Overwrite the payloads at `addresses` by the rows of `payload` uint32 (n, words)."""
    for i in range(addresses.size):
        for k in range(payload.shape[1]):
            store_u32(addresses[i] + 4 * k, payload[i, k])
