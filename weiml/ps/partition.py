"""Where a key lives: key to bucket by hash, bucket to shard by map; knows no tables or processes.

Buckets are the unit of placement: a power of two of them, each a run of the hash's high bits, so
that the map can change without rehashing a key. Rows of dense tables and numbers of vectors lie in
buckets too, by range instead of by hash. A changed map is a new `Partition` of a higher version.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.hashing import mix64

__all__ = [
    "MAX_BUCKETS",
    "NUM_BUCKETS",
    "Partition",
    "Split",
    "buckets_of_keys",
    "vector_places",
    "vector_starts",
]

NUM_BUCKETS = 1024
MAX_BUCKETS = 65536


@numba.njit(cache=True, nogil=True)
def _hash_buckets(keys: np.ndarray, bits: int) -> np.ndarray:
    out = np.empty(keys.size, np.int32)
    shift = np.uint64(64 - bits)
    for i in range(keys.size):
        out[i] = mix64(keys[i]) >> shift
    return out


@numba.njit(cache=True, nogil=True)
def _range_buckets(keys: np.ndarray, num_buckets: int, rows: int) -> np.ndarray:
    # The bucket whose range [rows·b // n, rows·(b + 1) // n) holds the row.
    out = np.empty(keys.size, np.int32)
    for i in range(keys.size):
        row = np.int64(keys[i])
        bucket = row * num_buckets // rows
        while rows * (bucket + 1) // num_buckets <= row:
            bucket += 1
        out[i] = bucket
    return out


def buckets_of_keys(keys: np.ndarray, num_buckets: int, rows: int | None = None) -> np.ndarray:
    """Return the bucket of each key: int32 (n,).

    By hash, ``mix64(key) >> (64 - log2(num_buckets))``; with `rows`, of a dense table of that many
    rows, by range.
    """
    flat = np.require(keys, np.uint64, ["C", "W"])
    if rows is not None:
        return np.asarray(_range_buckets(flat, num_buckets, rows))
    return np.asarray(_hash_buckets(flat, num_buckets.bit_length() - 1))


@numba.njit(cache=True, nogil=True)
def _split(
    keys: np.ndarray, buckets: np.ndarray, shards: np.ndarray, num_shards: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort by shard, stably: (keys by shard, their places in the input, starts of the shards)."""
    starts = np.zeros(num_shards + 1, np.int64)
    for i in range(keys.size):
        starts[shards[buckets[i]] + 1] += 1
    for s in range(num_shards):
        starts[s + 1] += starts[s]
    at = starts[:-1].copy()
    ordered = np.empty(keys.size, np.uint64)
    order = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        owner = shards[buckets[i]]
        place = at[owner]
        at[owner] = place + 1
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
    """A version of the map of buckets to shards. Immutable; equal when version and map are.

    Every uint64, 0 and 2⁶⁴-1 included, belongs to exactly one shard. The first version gives each
    shard a run of neighbouring buckets, as equal as they can be.

    Raises:
        ConfigError: num_buckets is no power of two in 2 … 65536, or there are more shards.
    """

    def __init__(
        self,
        num_shards: int,
        num_buckets: int = NUM_BUCKETS,
        *,
        version: int = 0,
        shards: np.ndarray | None = None,
    ) -> None:
        if not 2 <= num_buckets <= MAX_BUCKETS or num_buckets & (num_buckets - 1):
            raise ConfigError(
                f"num_buckets must be a power of two from 2 to {MAX_BUCKETS}, got {num_buckets}"
            )
        if not 1 <= num_shards <= num_buckets:
            raise ConfigError(
                f"num_shards must be from 1 to num_buckets = {num_buckets}, got {num_shards}"
            )
        self.num_shards = num_shards
        self.num_buckets = num_buckets
        self.version = version
        even = np.arange(num_buckets) * num_shards // num_buckets
        self.shards = np.array(even if shards is None else shards, np.int32)
        """int32 (num_buckets,): the shard of each bucket."""
        self.shards.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Partition)
            and (self.version, self.num_shards) == (other.version, other.num_shards)
            and np.array_equal(self.shards, other.shards)
        )

    def __hash__(self) -> int:
        return hash((self.version, self.num_shards, self.num_buckets))

    def buckets_of(self, keys: np.ndarray, rows: int | None = None) -> np.ndarray:
        """Return the bucket of each key: int32 (n,); see `buckets_of_keys`."""
        return buckets_of_keys(keys, self.num_buckets, rows)

    def shards_of(self, keys: np.ndarray, rows: int | None = None) -> np.ndarray:
        """Return the shard of each key: int32 (n,)."""
        return self.shards[self.buckets_of(keys, rows)]

    def split(self, keys: np.ndarray, rows: int | None = None) -> Split:
        """Group `keys` uint64 (n,) by shard; within a shard they keep their order."""
        flat = np.require(keys, np.uint64, ["C", "W"])
        return Split(*_split(flat, self.buckets_of(flat, rows), self.shards, self.num_shards))

    def buckets_at(self, shard: int) -> np.ndarray:
        """Return the buckets that `shard` holds: int32 (n,), ascending."""
        return np.flatnonzero(self.shards == shard).astype(np.int32)

    def vector_index(self, length: int, shard: int) -> np.ndarray:
        """Return where a vector's numbers that `shard` holds stand in it: int64 (local,).

        Asked for with each push of a dense model, so it is remembered: not to be changed.
        """
        return _vector_index(self, length, shard)

    def rescaled(self, num_shards: int) -> Partition:
        """Return the next version, for another number of shards, moving as few buckets as can be.

        Shards are numbered from 0, so shrinking empties those with the highest numbers.
        """
        Partition(num_shards, self.num_buckets)  # its errors name the knob
        shards = self.shards.copy()
        ends = np.arange(num_shards + 1) * self.num_buckets // num_shards
        wanted = np.diff(ends)
        homeless: list[int] = list(np.flatnonzero(shards >= num_shards))
        for shard in range(num_shards):
            own = np.flatnonzero(shards == shard)
            homeless += list(own[wanted[shard] :])
        for shard in range(num_shards):
            own = shards == shard
            own[homeless] = False
            for _ in range(int(wanted[shard] - own.sum())):
                shards[homeless.pop(0)] = shard
        return Partition(num_shards, self.num_buckets, version=self.version + 1, shards=shards)

    def moves_to(self, other: Partition) -> list[tuple[int, int, np.ndarray]]:
        """Return (from shard, to shard, buckets) for all that `other` places elsewhere."""
        pairs = np.stack([self.shards, other.shards], axis=1)
        return [
            (int(a), int(b), np.flatnonzero((pairs == (a, b)).all(axis=1)).astype(np.int32))
            for a, b in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
        ]

    def to_mapping(self) -> dict[str, object]:
        """Return plain data for JSON; the map as runs of (shard, buckets)."""
        starts = np.flatnonzero(np.diff(self.shards, prepend=-1))
        lengths = np.diff(np.append(starts, self.num_buckets))
        runs = [[int(self.shards[i]), int(n)] for i, n in zip(starts, lengths, strict=True)]
        return {"version": self.version, "num_shards": self.num_shards, "runs": runs}

    @classmethod
    def from_runs(cls, num_shards: int, version: int, runs: Sequence[Sequence[int]]) -> Partition:
        """Build the partition that `to_mapping` wrote."""
        shards = np.repeat([shard for shard, _ in runs], [length for _, length in runs])
        return cls(num_shards, len(shards), version=version, shards=shards)


def vector_places(length: int, num_buckets: int, buckets: np.ndarray) -> np.ndarray:
    """Return where the numbers of `buckets` stand in a whole vector: int64 (n,), in that order."""
    starts = vector_starts(length, num_buckets)
    chosen = np.asarray(buckets, np.int64)
    first, sizes = starts[chosen], starts[chosen + 1] - starts[chosen]
    offsets = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum()), dtype=np.int64) + np.repeat(first - offsets, sizes)


@functools.lru_cache(maxsize=64)
def _vector_index(partition: Partition, length: int, shard: int) -> np.ndarray:
    index = vector_places(length, partition.num_buckets, partition.buckets_at(shard))
    index.flags.writeable = False
    return index


def vector_starts(length: int, num_buckets: int) -> np.ndarray:
    """Return where each bucket's range of a vector starts: int64 (num_buckets + 1,).

    Bucket b holds ``[length·b // num_buckets, length·(b + 1) // num_buckets)``.
    """
    return np.arange(num_buckets + 1, dtype=np.int64) * length // num_buckets
