"""Distinct keys of a batch, grouped by shard where asked, and what the batch holds of each.

What a worker does before it pulls and before it pushes. All results depend on the input alone, bit
by bit. Scratch memory is kept per thread, so calls from several threads do not meet.
"""

from __future__ import annotations

import threading

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.rows.memory import prefetch

__all__ = ["counts_by_key", "squares_by_key", "sum_by_key", "unique_keys", "unique_split"]

_SMALLEST = 1 << 14  # slots a table begins with at most where keys repeat
_AHEAD = 64  # keys whose slots are asked for before they are looked at
_IN_CACHE = 1 << 17  # slots up to which asking costs more than it saves
_FREE = np.int32(-1)


class _Scratch(threading.local):
    """Slots of a hash table, which grow to the largest batch that a thread has seen."""

    def __init__(self) -> None:
        self.slots = np.empty(0, np.int32)

    def of(self, size: int) -> np.ndarray:
        if self.slots.size < size:
            self.slots = np.empty(size, np.int32)
        return self.slots


_scratch = _Scratch()


@numba.njit(cache=True, nogil=True)
def _fill(slots: np.ndarray, size: int, distinct: np.ndarray, count: int) -> None:
    """Make a table of `size` slots that holds the numbers of the first `count` distinct keys."""
    slots[:size] = _FREE
    mask = np.uint64(size - 1)
    for place in range(count):
        slot = mix64(distinct[place]) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = place


@numba.njit(cache=True, nogil=True)
def _unique(
    keys: np.ndarray, slots: np.ndarray, size: int, distinct: np.ndarray, inverse: np.ndarray
) -> int:
    """Write the distinct keys and each key's number among them; return how many there are.

    The table begins with `size` slots, so that it stays in cache where keys repeat a lot, and grows
    when it is half full; `slots` has room for twice as many as there are keys.
    """
    _fill(slots, size, distinct, 0)
    mask = np.uint64(size - 1)
    at = slots.ctypes.data
    hashes = np.empty(_AHEAD, np.uint64)
    count = 0
    for start in range(0, keys.size, _AHEAD):
        block = keys[start : start + _AHEAD]
        for j in range(block.size):
            hashes[j] = mix64(block[j])
        if size > _IN_CACHE:
            for j in range(block.size):
                prefetch(at + 4 * np.int64(hashes[j] & mask))
        for j in range(block.size):
            key = block[j]
            slot = hashes[j] & mask
            place = slots[slot]
            while place >= 0 and distinct[place] != key:
                slot = (slot + np.uint64(1)) & mask
                place = slots[slot]
            if place < 0:
                place = np.int32(count)
                slots[slot] = place
                distinct[count] = key
                count += 1
                if 2 * count > size:
                    # As many as are to be expected, so that few batches are filled in twice.
                    expected = count * keys.size // (start + j + 1)
                    while size < 2 * expected and size < slots.size:
                        size *= 2
                    mask = np.uint64(size - 1)
                    _fill(slots, size, distinct, count)
            inverse[start + j] = place
    return count


@numba.njit(cache=True, nogil=True)
def _group(
    distinct: np.ndarray,
    bucket_to_shard: np.ndarray,
    bits: int,
    inverse: np.ndarray,
    starts: np.ndarray,
) -> np.ndarray:
    """Return `distinct` grouped by shard, stably; `inverse` and `starts` are written to match."""
    shift = np.uint64(64 - bits)
    for i in range(distinct.size):
        starts[bucket_to_shard[mix64(distinct[i]) >> shift] + 1] += 1
    for shard in range(starts.size - 1):
        starts[shard + 1] += starts[shard]
    at = starts[:-1].copy()
    grouped = np.empty_like(distinct)
    moved = np.empty(distinct.size, np.int32)
    for i in range(distinct.size):
        shard = bucket_to_shard[mix64(distinct[i]) >> shift]
        place = at[shard]
        at[shard] = place + 1
        grouped[place] = distinct[i]
        moved[i] = place
    for i in range(inverse.size):
        inverse[i] = moved[inverse[i]]
    return grouped


def unique_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct keys uint64 (m,) in order of first appearance, inverse int32 (n,)).

    ``distinct[inverse] == keys``. Any uint64 is a key, 0 included.
    """
    flat = np.require(keys, np.uint64, ["C", "W"])
    largest = 1 << max(2 * flat.size - 1, 15).bit_length()
    size = min(largest, _SMALLEST)
    inverse = np.empty(flat.size, np.int32)
    distinct = np.empty(flat.size, np.uint64)
    slots = _scratch.of(largest)[:largest]
    count = _unique(flat, slots, size, distinct, inverse)
    return distinct[:count].copy(), inverse


def unique_split(
    keys: np.ndarray, bucket_to_shard: np.ndarray, num_shards: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (distinct uint64 (m,), starts int64 (num_shards + 1,), inverse int32 (n,)).

    Like `unique_keys`, but grouped: ``distinct[starts[s]:starts[s + 1]]`` are the keys of shard s,
    in order of first appearance. A key's shard is ``bucket_to_shard[mix64(key) >> (64 - bits)]``,
    where `bucket_to_shard` is int32 (2**bits,), as in `Partition.shards`.
    """
    distinct, inverse = unique_keys(keys)
    starts = np.zeros(num_shards + 1, np.int64)
    shards = np.require(bucket_to_shard, np.int32, ["C"])
    bits = shards.size.bit_length() - 1
    return np.asarray(_group(distinct, shards, bits, inverse, starts)), starts, inverse


def sum_by_key(values: np.ndarray, inverse: np.ndarray, num_keys: int) -> np.ndarray:
    """Return float32 (num_keys, dim): the sums of `values` (n, dim) that share an `inverse` (n,).

    The values of a key are added in the order in which they stand, so the bits do not vary.
    """
    return np.asarray(_sums(_rows(values), _places(inverse), num_keys))


def counts_by_key(inverse: np.ndarray, num_keys: int) -> np.ndarray:
    """Return float32 (num_keys,): how often each key occurs; exact up to 2²⁴."""
    return np.bincount(_places(inverse), minlength=num_keys).astype(np.float32)


def squares_by_key(values: np.ndarray, inverse: np.ndarray, num_keys: int) -> np.ndarray:
    """Return float32 (num_keys, dim): sums of the squares of `values`, added as in `sum_by_key`."""
    return np.asarray(_sums_of_squares(_rows(values), _places(inverse), num_keys))


def _rows(values: np.ndarray) -> np.ndarray:
    return np.require(values, np.float32, ["C", "W"])


def _places(inverse: np.ndarray) -> np.ndarray:
    return np.require(inverse, np.int32, ["C", "W"])


@numba.njit(cache=True, nogil=True)
def _sums(values: np.ndarray, inverse: np.ndarray, num_keys: int) -> np.ndarray:
    out = np.zeros((num_keys, values.shape[1]), np.float32)
    for i in range(inverse.size):
        row = inverse[i]
        for c in range(values.shape[1]):
            out[row, c] += values[i, c]
    return out


@numba.njit(cache=True, nogil=True)
def _sums_of_squares(values: np.ndarray, inverse: np.ndarray, num_keys: int) -> np.ndarray:
    out = np.zeros((num_keys, values.shape[1]), np.float32)
    for i in range(inverse.size):
        row = inverse[i]
        for c in range(values.shape[1]):
            out[row, c] += values[i, c] * values[i, c]
    return out
