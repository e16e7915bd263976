"""Where a key lives: key to bucket by hash, bucket to shard by map; knows no tables or processes.

Buckets are the unit of placement: a fixed number of them, each a run of the hash's high bits, so
that the map can change without rehashing a key. The low bits are left to the tables' own indexes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.hashing import mix64

__all__ = ["NUM_BUCKETS", "Partition", "Split", "vector_range"]

NUM_BUCKETS = 1024


@numba.njit(inline="always")
def _bucket(key: np.uint64, num_buckets: np.uint64) -> np.uint64:
    # Multiply and shift: even over any number of buckets, and monotone in the hash.
    return ((mix64(key) >> np.uint64(32)) * num_buckets) >> np.uint64(32)


@numba.njit(cache=True, nogil=True)
def _buckets(keys: np.ndarray, num_buckets: int) -> np.ndarray:
    out = np.empty(keys.size, np.int32)
    for i in range(keys.size):
        out[i] = _bucket(keys[i], np.uint64(num_buckets))
    return out


@numba.njit(cache=True, nogil=True)
def _split(
    keys: np.ndarray, shards: np.ndarray, num_shards: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort by shard, stably: (keys by shard, their places in the input, starts of the shards)."""
    starts = np.zeros(num_shards + 1, np.int64)
    owner = np.empty(keys.size, np.int32)
    for i in range(keys.size):
        owner[i] = shards[_bucket(keys[i], np.uint64(shards.size))]
        starts[owner[i] + 1] += 1
    for s in range(num_shards):
        starts[s + 1] += starts[s]
    at = starts[:-1].copy()
    ordered = np.empty(keys.size, np.uint64)
    order = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        place = at[owner[i]]
        at[owner[i]] = place + 1
        ordered[place] = keys[i]
        order[place] = i
    return ordered, order, starts


@dataclass(frozen=True)
class Split:
    """Keys grouped by shard: ``keys[starts[s]:starts[s + 1]]`` are shard s's, in input order."""

    keys: np.ndarray
    """uint64 (n,), grouped by shard."""
    order: np.ndarray
    """int64 (n,): the place in the input of each grouped key."""
    starts: np.ndarray
    """int64 (num_shards + 1,)."""

    def part(self, shard: int) -> slice:
        """Return the slice of the grouped arrays that belongs to `shard`."""
        return slice(int(self.starts[shard]), int(self.starts[shard + 1]))


class Partition:
    """The map of buckets to shards: runs of neighbouring buckets, as equal as they can be.

    Every uint64, 0 and 2⁶⁴-1 included, belongs to exactly one shard.
    """

    def __init__(self, num_shards: int, num_buckets: int = NUM_BUCKETS) -> None:
        if not 1 <= num_shards <= num_buckets:
            raise ConfigError(
                f"num_shards must be from 1 to num_buckets = {num_buckets}, got {num_shards}"
            )
        self.num_shards = num_shards
        self.num_buckets = num_buckets
        self.shards = (np.arange(num_buckets) * num_shards // num_buckets).astype(np.int32)
        """int32 (num_buckets,): the shard of each bucket."""

    def buckets_of(self, keys: np.ndarray) -> np.ndarray:
        """Return the bucket of each key: int32 (n,)."""
        return np.asarray(_buckets(np.require(keys, np.uint64, ["C", "W"]), self.num_buckets))

    def shards_of(self, keys: np.ndarray) -> np.ndarray:
        """Return the shard of each key: int32 (n,)."""
        return self.shards[self.buckets_of(keys)]

    def split(self, keys: np.ndarray) -> Split:
        """Group `keys` uint64 (n,) by shard; within a shard they keep their order."""
        flat = np.require(keys, np.uint64, ["C", "W"])
        return Split(*_split(flat, self.shards, self.num_shards))

    def bucket_range(self, shard: int) -> tuple[int, int]:
        """Return the half-open range of buckets that `shard` holds."""
        low, high = np.searchsorted(self.shards, [shard, shard + 1])
        return int(low), int(high)


def vector_range(length: int, shard: int, num_shards: int) -> tuple[int, int]:
    """Return the half-open range of a vector of `length` numbers that `shard` holds."""
    return length * shard // num_shards, length * (shard + 1) // num_shards
