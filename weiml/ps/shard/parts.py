"""A shard's content to and from checkpoints: one atomic cut, read out while writes go on."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from weiml.ps.checkpoint.chain import Chain
from weiml.ps.checkpoint.parts import RowsChunk, ShardPart, TablePart, VectorSlices
from weiml.ps.partition import Partition
from weiml.ps.shard.content import ShardContent, Table
from weiml.ps.shard.transfer import Held
from weiml.ps.shard.vectors import VectorPart
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.dense_snapshots import DenseSnapshot
from weiml.ps.tables.snapshots import TableSnapshot
from weiml.ps.tables.sparse import SparseTable

__all__ = [
    "InTurn",
    "control_of",
    "cut",
    "held_of",
    "read_content",
    "run_now",
]

_HELD = "held"

InTurn = Callable[[Callable[[], Any]], Any]
"""Runs a function when the shard's one writer comes to it, and returns what it returned."""


def run_now(work: Callable[[], Any]) -> Any:
    """Run `work` at once: for a shard that is used from the same thread."""
    return work()


def cut(
    shard: ShardContent,
    since: int | None,
    control: dict[str, Any],
    in_turn: InTurn,
    held: list[tuple[int, int, Held]],
) -> ShardPart | None:
    """Return the shard's state of this moment, or its changes after sequence number `since`.

    Iterating its rows asks for them piece by piece through `in_turn`, from any thread; what is
    written meanwhile does not show in them. None: the shard does not remember as far back.
    """
    tables = list(shard.tables.values())
    changed: list[np.ndarray | None] = [None] * len(tables)
    if since is not None:
        changed = [table.changed_keys(since) for table in tables]
        if any(keys is None for keys in changed):
            return None  # before a snapshot is begun, which somebody would have to close
    with contextlib.ExitStack() as begun:  # whoever writes the part closes them, if there is one
        parts = [
            _whole(table, in_turn, begun)
            if since is None or keys is None
            else _changed(shard, table, keys, since, in_turn, begun)
            for table, keys in zip(tables, changed, strict=True)
        ]
        part = ShardPart(
            index=shard.index,
            sequence=shard.sequence,
            base=since,
            buckets=shard.partition.buckets_at(shard.index),
            tables=parts,
            vectors={name: _slices(part, since) for name, part in shard.vectors.items()},
            control=control,
            arrays={_HELD: _packed(held)} if held else {},
        )
        begun.pop_all()
    return part


def read_content(template: ShardContent, chain: Chain) -> ShardContent:
    """Return the part of a checkpoint that lies in the buckets of `template`, as a new content.

    Raises:
        ParameterServerError: a file is missing or damaged; the message names it.
    """
    partition = template.partition
    content = ShardContent(template.config, template.index, partition)
    content.sequence = 1
    for config in chain.tables:
        content.create_table(config)
    buckets = partition.buckets_at(template.index)
    for name, expected in chain.expected_rows(buckets, partition.num_buckets).items():
        table = content.tables[name]
        if isinstance(table, SparseTable):
            table.expect_rows(expected)
    for rows in chain.rows(buckets, partition.num_buckets):
        table = content.tables[rows.config.name]
        if rows.payload is None:
            table.remove_rows(rows.keys, content.sequence)
        elif isinstance(table, SparseTable):
            table.load_rows(rows.keys, rows.payload)
        else:
            table.import_rows(rows.keys, rows.payload, content.sequence)
        del rows  # what they lie in is read into again
    for name, values in chain.vector_values(buckets, partition.num_buckets).items():
        content.create_vector(name, chain.vectors[name], values)
    for extras in chain.extras(buckets, partition.num_buckets):
        table = content.tables[extras.table]
        if isinstance(table, SparseTable):
            table.load_extras(extras.arrays, content.sequence)
    return content


def held_of(chain: Chain, shard: int) -> list[tuple[int, int, Held]]:
    """Return the pushes that a saved shard held."""
    return _unpacked(chain.arrays(shard).get(_HELD))


def control_of(chain: Chain, shard: int, partition: Partition) -> dict[str, Any] | None:
    """Return what a saved shard knew of clock and clients; None if the buckets lay elsewhere."""
    controls = chain.newest.controls
    if shard >= len(controls):
        return None
    control = controls[shard]
    same = control.get("partition") == partition.to_mapping()
    return control if same else None


def _changed(
    shard: ShardContent,
    table: Table,
    keys: np.ndarray,
    since: int,
    in_turn: InTurn,
    begun: contextlib.ExitStack,
) -> TablePart:
    if isinstance(table, DenseTable):
        # Of buckets on their way here, or that did not come after all, it may have no rows.
        keys = shard.owned(table, keys)
        payload, _ = table.export_rows(keys)  # all there, and few
        return TablePart(config=table.config, chunks=[(keys, payload)])
    snapshot = table.begin_snapshot(keys)
    begun.callback(snapshot.close)
    return TablePart(
        config=table.config,
        chunks=_SnapshotChunks(snapshot, in_turn),
        deleted=snapshot.missing,
        # An admission filter is large and changes little.
        extras=table.filter_delta(since, shard.partition.buckets_at(shard.index)),
    )


def _whole(table: Table, in_turn: InTurn, begun: contextlib.ExitStack) -> TablePart:
    snapshot = table.begin_snapshot()
    begun.callback(snapshot.close)
    extras = {} if isinstance(table, DenseTable) else table.extras()
    return TablePart(config=table.config, chunks=_SnapshotChunks(snapshot, in_turn), extras=extras)


def _slices(vector: VectorPart, since: int | None) -> VectorSlices:
    """Return a copy of a vector's numbers; of one that did not change after `since`, none."""
    if since is not None and vector.touched <= since:
        return VectorSlices(length=vector.length, slices=())
    values = vector.values.copy()
    ends = np.cumsum([stop - start for start, stop in vector.ranges])
    slices = [
        (start, values[end - (stop - start) : end])
        for (start, stop), end in zip(vector.ranges, ends, strict=True)
    ]
    return VectorSlices(length=vector.length, slices=slices)


class _SnapshotChunks:
    """A snapshot's pieces, each asked for in turn; who writes them closes it, come what may."""

    def __init__(self, snapshot: TableSnapshot | DenseSnapshot, in_turn: InTurn) -> None:
        self._snapshot = snapshot
        self._in_turn = in_turn

    def __iter__(self) -> Iterator[RowsChunk]:
        while (chunk := self._in_turn(self._snapshot.next_chunk)) is not None:
            yield chunk

    def close(self) -> None:
        """Let the table forget the snapshot."""
        self._in_turn(self._snapshot.close)


def _packed(held: list[tuple[int, int, Held]]) -> np.ndarray:
    """Return pushes that wait for the end of their tick as bytes: uint8 (n,), an ``npz`` file."""
    arrays: dict[str, Any] = {}
    for number, (tick, worker, push) in enumerate(held):
        arrays[f"{number}.at"] = np.array([tick, worker])
        for field in fields(push):
            value = getattr(push, field.name)
            if value is not None:
                arrays[f"{number}.{field.name}"] = np.asarray(value)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return np.frombuffer(file.getbuffer(), np.uint8)


def _unpacked(content: np.ndarray | None) -> list[tuple[int, int, Held]]:
    """Return what `_packed` was given; nothing for None."""
    if content is None:
        return []
    held: list[tuple[int, int, Held]] = []
    with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as arrays:
        while (at := f"{len(held)}.at") in arrays:
            values = {
                field.name: arrays[name]
                for field in fields(Held)
                if (name := f"{len(held)}.{field.name}") in arrays
            }
            text = {name: str(v) for name, v in values.items() if v.dtype.kind == "U"}
            tick, worker = arrays[at].tolist()
            held.append((tick, worker, Held(**(values | text))))
    return held
