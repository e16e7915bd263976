"""What a shard gives to a checkpoint and gets back: arrays and iterators of arrays, no shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from weiml.ps.checkpoint.manifest import FileEntry, ShardEntry
from weiml.ps.tables.config import TableConfig

__all__ = ["Extras", "Rows", "RowsChunk", "ShardPart", "ShardRecord", "TablePart", "VectorSlices"]

RowsChunk: TypeAlias = tuple[np.ndarray, np.ndarray]
"""(keys uint64 (n,), payload uint32 (n, words)); left as it is until the part is written."""


def _none() -> np.ndarray:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, kw_only=True)
class TablePart:
    """A shard's rows of one table: all of them, or those changed since the parent's cut."""

    config: TableConfig
    chunks: Iterable[RowsChunk]
    """Consumed while it is written, so that only a chunk or two need be in memory. Its ``close``,
    if it has one, is called at the end, whether it was written, begun or never looked at."""
    deleted: Callable[[], np.ndarray] = _none
    """Of a delta: returns uint64 (n,), the keys that have no row any more. Called after `chunks`
    are at their end."""
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of numbers that belong to the table on this shard, such as an admission filter."""


@dataclass(frozen=True, kw_only=True)
class VectorSlices:
    """A shard's numbers of one vector; none in a delta whose parent has them."""

    length: int
    """Of the whole vector."""
    slices: Iterable[tuple[int, np.ndarray]] = ()
    """(start, values float32 (n,)): maximal runs, ascending."""


@dataclass(frozen=True, kw_only=True)
class ShardPart:
    """The applied state of one shard at one moment, or what changed in it since another one."""

    index: int
    sequence: int
    """The shard's sequence number at that moment."""
    base: int | None = None
    """Of a delta: the sequence number since which changes are here, the parent's."""
    buckets: np.ndarray
    """int32: the buckets that the shard holds. Rows of others are left out."""
    tables: Sequence[TablePart]
    vectors: Mapping[str, VectorSlices] = field(default_factory=dict)
    """All vectors by name."""
    control: Mapping[str, Any] = field(default_factory=dict)
    """Plain data to find again beside the rows: clock, clients."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays of numbers that belong to `control`."""


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What one shard has written; what the manifest is made of."""

    shard: ShardEntry
    tables: tuple[TableConfig, ...]
    vectors: dict[str, int]
    """name: length."""
    files: tuple[FileEntry, ...]


class Rows(NamedTuple):
    """Some rows of one table as they are read again, or keys whose rows go."""

    config: TableConfig
    keys: np.ndarray
    """uint64 (n,)."""
    payload: np.ndarray | None
    """uint32 (n, words); None: the keys were deleted."""


class Extras(NamedTuple):
    """One shard's arrays of one table, as it gave them to one checkpoint."""

    table: str
    shard: int
    buckets: np.ndarray
    """int32, ascending: the buckets that the shard held, of the checkpoint's number of them."""
    arrays: dict[str, np.ndarray]
