"""A shard's part: written while it is made, cut into blocks and files, only what is the shard's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from tests.ps.checkpoint.state import DEEP, WIDE, trained
from weiml.errors import ParameterServerError
from weiml.ps import Partition
from weiml.ps.checkpoint import (
    CheckpointSpec,
    CheckpointWriter,
    RowsChunk,
    ShardPart,
    TablePart,
    write_shard,
)
from weiml.ps.checkpoint.shard_writer import _blocks


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[CheckpointSpec]:
    with CheckpointWriter(tmp_path / "x", num_buckets=64, time_s=0, part_bytes=1 << 16) as writer:
        yield writer.spec


def part(chunks: Iterator[RowsChunk] | list[RowsChunk], buckets: np.ndarray) -> ShardPart:
    return ShardPart(
        index=0, sequence=1, buckets=buckets, tables=[TablePart(config=DEEP, chunks=chunks)]
    )


def chunk(keys: np.ndarray) -> RowsChunk:
    return keys, np.full((len(keys), DEEP.payload_words), 7, np.uint32)


ALL = np.arange(64, dtype=np.int32)


def test_chunks_are_asked_for_while_files_are_written(spec: CheckpointSpec) -> None:
    folder = Path(spec.folder.place)
    seen = []

    def chunks() -> Iterator[RowsChunk]:
        for i in range(20):
            seen.append(len(list(folder.rglob("*.arrow"))))
            yield chunk(np.arange(50_000 * i, 50_000 * (i + 1), dtype=np.uint64))

    record = write_shard(spec, part(chunks(), ALL))
    assert seen[0] == 0
    assert all(later > earlier for earlier, later in pairwise(seen))
    assert sum(entry.rows for entry in record.files) == 1_000_000
    # A file ends with the block, of about a MiB, in which it reaches its size.
    assert max(entry.bytes for entry in record.files) < (1 << 16) + (2 << 20)


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [([1] * 30, 10), ([100], 10), ([3, 0, 9, 25, 1], 10), ([], 5), ([0, 0], 5), ([7, 7], 1)],
)
def test_blocks_keep_all_rows_in_order_and_near_their_size(sizes: list[int], rows: int) -> None:
    starts = np.cumsum([0, *sizes])
    chunks = [
        chunk(np.arange(a, a + n, dtype=np.uint64)) for a, n in zip(starts, sizes, strict=False)
    ]
    blocks = [keys for keys, _ in _blocks(chunks, rows)]
    assert np.concatenate([np.empty(0, np.uint64), *blocks]).tolist() == list(range(sum(sizes)))
    assert all(rows // 2 <= len(keys) <= rows * 3 // 2 for keys in blocks[:-1])


def test_rows_of_buckets_on_their_way_elsewhere_are_left_out(spec: CheckpointSpec) -> None:
    partition = Partition(4, 64)
    keys = np.arange(5000, dtype=np.uint64)
    record = write_shard(spec, part([chunk(keys)], partition.buckets_at(2)))
    (entry,) = record.files
    table = pa.ipc.open_file(f"{spec.folder}/{entry.path}").read_all()
    mine = partition.shards_of(keys) == 2
    assert table.column("key").to_pylist() == keys[mine].tolist()
    assert entry.buckets == (32, 47)
    assert record.shard.buckets == ((32, 48),)


def test_a_table_without_rows_has_no_file_but_is_known(spec: CheckpointSpec) -> None:
    empty = chunk(np.empty(0, np.uint64))
    record = write_shard(spec, part([empty], ALL))
    assert record.files == ()
    assert record.tables == (DEEP,)


def test_extras_of_any_type_and_shape_get_a_file_each(spec: CheckpointSpec) -> None:
    extras = {
        "a-b": np.zeros((0, 3), np.float64),
        "b": np.ones((2, 2, 2), bool),
        "c": np.arange(600_000, dtype=np.int8),
    }
    table = TablePart(config=WIDE, chunks=[], extras=extras)
    record = write_shard(spec, replace(part([], ALL), tables=[table]))
    assert [(e.name, e.array, e.dtype, e.shape) for e in record.files] == [
        ("wide", "a-b", "<f8", (0, 3)),
        ("wide", "b", "|b1", (2, 2, 2)),
        ("wide", "c", "|i1", (600_000,)),
    ]
    assert len({entry.path for entry in record.files}) == 3


@pytest.mark.parametrize(
    ("keys", "payload"),
    [
        (np.zeros(2, np.int64), np.zeros((2, 3), np.uint32)),
        (np.zeros(2, np.uint64), np.zeros((2, 3), np.float32)),
        (np.zeros(2, np.uint64), np.zeros((2, 2), np.uint32)),
        (np.zeros(3, np.uint64), np.zeros((2, 3), np.uint32)),
    ],
)
def test_a_chunk_of_another_form_is_refused_with_shard_and_table(
    spec: CheckpointSpec, keys: np.ndarray, payload: np.ndarray
) -> None:
    with pytest.raises(ParameterServerError, match="shard 0, table 'deep'.*uint32.*got"):
        write_shard(spec, part([(keys, payload)], ALL))


def test_an_error_of_the_shard_comes_out_as_it_is(spec: CheckpointSpec) -> None:
    def chunks() -> Iterator[RowsChunk]:
        yield chunk(np.arange(100_000, dtype=np.uint64))
        raise ZeroDivisionError("in the table")

    with pytest.raises(ZeroDivisionError, match="in the table"):
        write_shard(spec, part(chunks(), ALL))


class Closing:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[RowsChunk]:
        yield chunk(np.arange(10, dtype=np.uint64))
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("error", [None, OSError("of the shard")])
def test_chunks_are_closed_whether_written_or_never_come_to(
    spec: CheckpointSpec, error: Exception | None
) -> None:
    first, never = Closing(error), Closing()
    tables = [TablePart(config=DEEP, chunks=first), TablePart(config=WIDE, chunks=[])]
    tables.append(TablePart(config=replace(DEEP, name="other"), chunks=never))
    with pytest.raises(OSError, match="of the shard") if error else nullcontext():
        write_shard(spec, replace(part([], ALL), tables=tables))
    assert (first.closed, never.closed) == (1, 1)


def test_the_parts_of_all_shards_hold_each_row_once(
    spec: CheckpointSpec, rng: np.random.Generator
) -> None:
    state = trained(rng)
    records = state.write(spec, num_shards=3, chunk=1)
    rows = {
        name: sum(e.rows for r in records for e in r.files if (e.kind, e.name) == ("rows", name))
        for name in state.tables
    }
    assert rows == {name: len(table) for name, table in state.tables.items()}


def test_chunks_that_cannot_be_closed_do_not_keep_others_open(spec: CheckpointSpec) -> None:
    class Broken(Closing):
        def close(self) -> None:
            super().close()
            raise OSError("cannot be closed")

    first, second, third = Broken(), Broken(), Closing()
    tables = [
        TablePart(config=replace(DEEP, name=f"table-{number}"), chunks=chunks)
        for number, chunks in enumerate((first, second, third))
    ]
    with pytest.raises(OSError, match="cannot be closed"):
        write_shard(spec, ShardPart(index=0, sequence=1, buckets=ALL, tables=tables))
    assert (first.closed, second.closed, third.closed) == (1, 1, 1)
