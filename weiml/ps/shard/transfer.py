"""What travels between shards: rows as they are, never operations on them.

A stand-by follows its shard, a bucket moves and a lost stand-by is rebuilt by the same two things:
whole buckets, and what changed since a sequence number. Both hold values, so that taking one over
twice is harmless. This module knows no processes and no order of requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from weiml.ps.partition import Partition
from weiml.ps.tables.sparse import TableConfig

__all__ = ["Held", "RescaleState", "ShardRows", "ShardUpdate", "Stamp"]


@dataclass(frozen=True)
class Stamp:
    """Who asks, and when in the asker's own order."""

    client: str
    """Unique to one client object."""
    seq: int
    """For a write its number on this shard, from 1; for a read the last write before it."""
    worker: int | None
    tick: int
    """The worker's finished ticks (for a prefetch those it will have); 0 for an observer."""
    version: int = 0
    """Of the partition that the request was split by."""


@dataclass(frozen=True)
class Held:
    """A push that waits for the end of its BSP tick."""

    verb: str
    """``push`` or ``push_vector``."""
    name: str
    keys: np.ndarray
    """uint64 (n,); for a vector int64 (n,), the places of its numbers in the whole vector."""
    values: np.ndarray
    what: str = ""
    counts: np.ndarray | None = None
    squares: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ShardRows:
    """Rows and numbers of some buckets, with the definitions they need."""

    tables: tuple[TableConfig, ...] = ()
    born: dict[tuple[str, str], int] = field(default_factory=dict)
    """("table" or "vector", name): when the sender made it. A stand-by that has an earlier one of
    that name begins it anew."""
    rows: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Table: (keys uint64 (n,), payload uint32 (n, words))."""
    gone: dict[str, np.ndarray] = field(default_factory=dict)
    """Table: keys of rows that are no more."""
    whole: frozenset[str] = frozenset()
    """Tables of which `rows` is all there is: what the receiver has besides, goes."""
    buckets: np.ndarray | None = None
    """The buckets that this is about; None: all."""
    vectors: dict[str, int] = field(default_factory=dict)
    """Every vector's length."""
    numbers: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Vector: (buckets int32, their numbers float32, concatenated)."""
    arriving: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """The same of buckets that are on their way to the sender; only a stand-by is told."""
    extras: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Table: the state of its admission filter."""
    held: tuple[tuple[int, int, Held], ...] = ()
    """(tick, worker, push) that came since, in the order in which they came."""

    @property
    def nbytes(self) -> int:
        """Bytes of keys, rows and numbers."""
        arrays = [a for pair in (*self.rows.values(), *self.numbers.values()) for a in pair]
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True, kw_only=True)
class RescaleState:
    """Where a shard is in a rescale, so that a stand-by that takes over goes on from there."""

    frozen: bool
    barrier: int | None
    arrived: dict[int, tuple[str, int, str]]
    """Worker: (client, seq, verb) of what waits at the barrier."""
    passes: frozenset[tuple[str, int]]
    """(client, seq) of the ticks that were let through, cut by an older partition."""
    given_up: int
    """Rescales that were given up, with all that had come for them."""
    retired: dict[tuple[int, int], dict[str, int]] | None
    """(shard, version of the partition without it): the clients' last writes; None: no news."""


@dataclass(frozen=True, kw_only=True)
class ShardUpdate:
    """All that happened on a shard since the update before: what a stand-by takes over."""

    epoch: int
    """Of the process that sends it; a stand-by follows none older than its own."""
    sequence: int
    """The shard's sequence number afterwards."""
    content: ShardRows
    partition: Partition
    clients: dict[str, int]
    """Client: its last write, for those that wrote."""
    owners: dict[int, str]
    """Worker: the client that speaks for it."""
    ticks: tuple[int, ...]
    live: tuple[bool, ...]
    count: int
    held_left: frozenset[tuple[int, int]]
    """The (tick, worker) whose pushes are still held."""
    held_anew: frozenset[tuple[int, int]]
    """Those of which earlier pushes were dropped: only what `content` brings is held."""
    rescale: RescaleState
    counts: dict[str, int]
    expired: dict[str, tuple[str, int]]
    """Table: its last `expire`, and the rows that it removed."""
    copied_at: int | None = None
    """The sequence number of the copy that this is the end of; None: the stand-by has followed."""
