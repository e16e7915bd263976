"""A group's content as plain dictionaries: cut into shards and chunks, and read from a chain again.

What a checkpoint must bring back, told without any of the code that writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from weiml.ps import FTRL, SGD, Partition, TableConfig
from weiml.ps.checkpoint import (
    Chain,
    CheckpointSpec,
    RowsChunk,
    ShardPart,
    ShardRecord,
    TablePart,
    VectorSlices,
    write_shard,
)

WIDE = TableConfig("wide", optimizer=FTRL(l1=0.1), statistics=("clicks", "count"))
DEEP = TableConfig("deep", dim=3, optimizer=SGD(), init_scale=0.1, seed=4)
EMPTY = TableConfig("empty", dim=2, optimizer=SGD())
DENSE = TableConfig("dense", dim=2, optimizer=SGD(), rows=100)
TABLES = (WIDE, DEEP, EMPTY, DENSE)

Rows = dict[int, tuple[int, ...]]


@dataclass
class State:
    """What a group holds, and what changed since the last checkpoint."""

    num_buckets: int = 64
    sequence: int = 1
    base: int = 0
    tables: dict[str, Rows] = field(default_factory=lambda: {c.name: {} for c in TABLES})
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    changed: dict[str, set[int]] = field(default_factory=lambda: {c.name: set() for c in TABLES})
    touched: set[str] = field(default_factory=set)

    def put(self, table: str, rows: Rows) -> None:
        self.tables[table].update(rows)
        self.changed[table].update(rows)
        self.sequence += 1

    def delete(self, table: str, keys: list[int]) -> None:
        for key in keys:
            self.tables[table].pop(key, None)
        self.changed[table].update(keys)
        self.sequence += 1

    def set_vector(self, name: str, values: np.ndarray) -> None:
        self.vectors[name] = values
        self.touched.add(name)
        self.sequence += 1

    def write(self, spec: CheckpointSpec, num_shards: int = 2, chunk: int = 7) -> list[ShardRecord]:
        """Write all shards' parts, of what changed if it is a delta; then nothing is changed."""
        parts = [self.part(spec, num_shards, index, chunk) for index in range(num_shards)]
        records = [write_shard(spec, part) for part in reversed(parts)]
        self.base = self.sequence
        self.changed = {c.name: set() for c in TABLES}
        self.touched = set()
        return records

    def part(self, spec: CheckpointSpec, num_shards: int, index: int, chunk: int = 7) -> ShardPart:
        """Return one shard's part."""
        delta = spec.kind == "delta"
        partition = Partition(num_shards, self.num_buckets)
        tables = []
        for config in TABLES:
            rows = self.tables[config.name]
            keys = sorted(self.changed[config.name] if delta else rows)
            array = np.array(keys, np.uint64)
            mine = array[partition.shards_of(array, config.rows) == index].tolist()
            tables.append(
                TablePart(
                    config=config,
                    chunks=chunks(config, rows, [key for key in mine if key in rows], chunk),
                    deleted=partial(np.array, [key for key in mine if key not in rows], np.uint64),
                    extras={"seen": np.arange(6, dtype=np.uint16).reshape(2, 3) + index}
                    if config is WIDE
                    else {},
                )
            )
        return ShardPart(
            index=index,
            sequence=self.sequence,
            base=self.base if delta else None,
            buckets=partition.buckets_at(index),
            tables=tables,
            vectors={
                name: VectorSlices(
                    length=len(values),
                    slices=slices(values, partition, index)
                    if not delta or name in self.touched
                    else (),
                )
                for name, values in self.vectors.items()
            },
            control={"clients": {"a": 3}, "ticks": [index]},
        )


def chunks(config: TableConfig, rows: Rows, keys: list[int], size: int) -> Iterator[RowsChunk]:
    for start in range(0, len(keys), size):
        piece = keys[start : start + size]
        payload = np.array([rows[key] for key in piece], np.uint32)
        yield np.array(piece, np.uint64), payload.reshape(-1, config.payload_words)


def slices(
    values: np.ndarray, partition: Partition, index: int
) -> Iterator[tuple[int, np.ndarray]]:
    places = partition.vector_index(len(values), index)
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    for run in np.split(places, starts[1:]):
        if len(run):
            yield int(run[0]), values[run]


def rows_of(chain: Chain, num_shards: int = 1, num_buckets: int = 64) -> dict[str, Rows]:
    """Return all rows as shards of another group read them; each key on the shard it belongs to."""
    partition = Partition(num_shards, num_buckets)
    tables: dict[str, Rows] = {config.name: {} for config in chain.tables}
    for index in range(num_shards):
        for config, keys, payload in chain.rows(partition.buckets_at(index), num_buckets):
            assert (partition.shards_of(keys, config.rows) == index).all()
            rows = tables[config.name]
            if payload is None:
                for key in keys.tolist():
                    rows.pop(key, None)
            else:
                rows |= zip(keys.tolist(), map(tuple, payload.tolist()), strict=True)
    return tables


def vectors_of(chain: Chain, num_shards: int = 1, num_buckets: int = 64) -> dict[str, np.ndarray]:
    """Return whole vectors as shards of another group read them."""
    partition = Partition(num_shards, num_buckets)
    whole = {name: np.full(length, np.nan, np.float32) for name, length in chain.vectors.items()}
    for index in range(num_shards):
        for name, values in chain.vector_values(partition.buckets_at(index), num_buckets).items():
            whole[name][partition.vector_index(len(whole[name]), index)] = values
    return whole


def random_rows(config: TableConfig, keys: list[int], rng: np.random.Generator) -> Rows:
    words = rng.integers(0, 2**32, (len(keys), config.payload_words), dtype=np.uint64)
    return dict(zip(keys, map(tuple, words.tolist()), strict=True))


def trained(rng: np.random.Generator, num_keys: int = 200) -> State:
    """Return a state with rows in three tables, one empty, and two vectors."""
    state = State()
    keys = [0, 2**64 - 1, *rng.integers(1, 2**63, num_keys).tolist()]
    state.put("wide", random_rows(WIDE, keys, rng))
    state.put("deep", random_rows(DEEP, keys[: num_keys // 2], rng))
    state.put("dense", random_rows(DENSE, list(range(100)), rng))
    state.set_vector("v", rng.normal(size=301).astype(np.float32))
    state.set_vector("short", np.arange(3, dtype=np.float32))
    return state
