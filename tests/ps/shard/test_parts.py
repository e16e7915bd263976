"""Cuts of a shard for checkpoints: written or failed, they leave nothing behind in its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import SGD, Adagrad, EmbeddedParameterServer, TableConfig
from weiml.ps.base import GroupConfig
from weiml.ps.checkpoint import (
    CheckpointSpec,
    CheckpointWriter,
    Folder,
    ShardRecord,
    open_checkpoint,
    write_checkpoint,
    write_shard,
)
from weiml.ps.shard.shard import Shard
from weiml.ps.shard.transfer import Stamp
from weiml.ps.tables.changes import hash_keys

T = TypeVar("T")
KEYS = np.arange(100, dtype=np.uint64)
TABLES = (
    TableConfig("a", optimizer=SGD()),
    TableConfig("b", dim=3, optimizer=SGD()),
    TableConfig("dense", optimizer=SGD(), rows=50),
)


@pytest.fixture
def shard() -> Shard:
    shard = Shard(GroupConfig(num_shards=1, num_workers=1), 0)
    for config in TABLES:
        shard.create_table(config)
    for table in ("a", "b"):
        shard.tables[table].import_rows(KEYS, rows(shard, table), 1)
    return shard


def rows(shard: Shard, table: str) -> np.ndarray:
    words = shard.tables[table].config.payload_words
    return np.full((len(KEYS), words), 7, np.uint32)


def open_snapshots(shard: Shard) -> int:
    return sum(len(table._snapshots) for table in shard.tables.values())


def test_a_cut_that_was_written_is_forgotten(shard: Shard, tmp_path: Path) -> None:
    def write(spec: CheckpointSpec) -> list[ShardRecord]:
        record = shard.save(spec)
        assert record is not None
        return [record]

    write_checkpoint(tmp_path / "x", write, num_buckets=1024, time_s=0)
    assert open_snapshots(shard) == 0


def test_a_delta_holds_its_moment_whatever_is_written_before_it_is_read(
    shard: Shard, tmp_path: Path
) -> None:
    shard.sequence = 1
    with CheckpointWriter(tmp_path / "full", num_buckets=1024, time_s=0) as writer:
        record = shard.save(writer.spec)
        assert record is not None
        parent = writer.commit([record])
    words = {"a": 1, "b": 3, "dense": 1}
    for table, width in words.items():
        shard.sequence += 1
        keys = KEYS[10:40]
        shard.tables[table].import_rows(keys, np.full((30, width), 8, np.uint32), shard.sequence)
    shard.sequence += 1
    shard.tables["a"].delete(KEYS[35:45], shard.sequence)
    every = np.arange(1024, dtype=np.int32)
    before = {name: table.scan(every) for name, table in shard.tables.items()}

    def write_between(work: Callable[[], T]) -> T:
        shard.sequence += 1
        for table, width in words.items():
            new = np.full((50, width), 9, np.uint32)
            shard.tables[table].import_rows(KEYS[:50], new, shard.sequence)
        shard.tables["b"].delete(KEYS[20:30], shard.sequence)
        return work()

    with CheckpointWriter(tmp_path / "delta", num_buckets=1024, time_s=0, parent=parent) as writer:
        part = shard.part(writer.spec.base(0), write_between)
        assert part is not None
        write_between(lambda: None)
        manifest = writer.commit([write_shard(writer.spec, part)])
    assert open_snapshots(shard) == 0
    assert manifest.rows == 25 + 30 + 30
    loaded = Shard(GroupConfig(num_shards=1, num_workers=1), 0)
    loaded.restore(open_checkpoint(tmp_path / "delta"))
    for name, (keys, payload) in before.items():
        again = loaded.tables[name].scan(every)
        assert np.array_equal(again[0], keys)
        assert np.array_equal(again[1], payload)


def test_a_delta_that_is_refused_begins_nothing(shard: Shard) -> None:
    shard.tables["b"].changes.reset(5)
    shard.sequence = 5
    assert shard.part(1) is None
    assert open_snapshots(shard) == 0


@pytest.mark.parametrize("kind", ["full", "delta"])
def test_a_cut_that_could_not_be_written_is_forgotten(
    shard: Shard, kind: Literal["full", "delta"]
) -> None:
    spec = CheckpointSpec(
        folder=Folder("/proc/nowhere"),
        prefix="",
        kind=kind,
        num_buckets=1024,
        part_bytes=1 << 20,
        bases=None if kind == "full" else (0,),
    )
    with pytest.raises(ParameterServerError, match="/proc/nowhere"):
        shard.save(spec)
    assert open_snapshots(shard) == 0


def test_a_group_trains_on_after_a_failed_save(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with EmbeddedParameterServer(2) as ps:
        for config in TABLES:
            ps.create_table(config)
        with pytest.raises(ParameterServerError, match="file"):
            ps.save(str(tmp_path / "file" / "x"))
        ps.client().push("a", KEYS, np.ones((100, 1), np.float32))
        ps.save(str(tmp_path / "x"))


def test_pushes_of_the_tick_under_way_are_restored_with_the_rest(tmp_path: Path) -> None:
    config = GroupConfig(num_shards=1, num_workers=2, staleness=0)

    def make() -> Shard:
        return Shard(config, 0)

    def ask(shard: Shard, verb: str, worker: int, seq: int, *arguments: object) -> None:
        shard.serve(verb, Stamp(f"client-{worker}", seq, worker, 0), *arguments)

    def push_both(shard: Shard) -> None:
        shard.create_table(TableConfig("t", optimizer=Adagrad()))
        shard.create_vector("v", 5, None)
        for worker in range(2):
            shard.join(worker, f"client-{worker}")
        ones = np.ones((len(KEYS), 1), np.float32)
        counts = (None, np.full(len(KEYS), 2, np.float32))
        for worker in range(2):
            ask(shard, "push", worker, 1, "t", KEYS, ones * (worker + 1), "gradients",
                counts[worker], None)  # fmt: skip
            differences = np.arange(5, dtype=np.float32) + worker
            ask(shard, "push_vector", worker, 2, "v", np.arange(5), differences)
        ask(shard, "tick", 0, 3)  # the other worker is still in its tick

    shard, restored = make(), make()
    push_both(shard)

    def write(spec: CheckpointSpec) -> list[ShardRecord]:
        record = shard.save(spec)
        assert record is not None
        return [record]

    write_checkpoint(tmp_path / "x", write, num_buckets=1024, time_s=0)
    restored.restore(open_checkpoint(tmp_path / "x"))
    assert len(restored.tables["t"]) == 0
    for one in (shard, restored):
        for worker in range(2):
            assert one.resume(f"client-{worker}", 3 - worker, worker, 1 - worker) == 0
        ask(one, "tick", 1, 3)
    state = shard.tables["t"].pull_state(KEYS)
    assert state.any()
    assert np.array_equal(restored.tables["t"].pull_state(KEYS), state)
    assert shard.vectors["v"].values.tolist() == [1, 3, 5, 7, 9]
    assert restored.vectors["v"].values.tolist() == [1, 3, 5, 7, 9]


def half_moved_shard() -> tuple[Shard, np.ndarray]:
    """Return one of two shards that was on its way to hold all rows of its dense table."""
    shard = Shard(GroupConfig(num_shards=2, num_workers=1), 0)
    for name, rows_ in (("a", None), ("d", 64)):
        shard.create_table(TableConfig(name, optimizer=SGD(), rows=rows_))
    shard.sequence += 1
    every = np.arange(64, dtype=np.uint64)
    shard.tables["a"].import_rows(every, np.ones((64, 1), np.uint32), shard.sequence)
    shard.tables["d"].import_rows(every, np.ones((64, 1), np.uint32), shard.sequence)
    return shard, shard.owned(shard.tables["d"], every)


@pytest.mark.parametrize("given_up", [False, True])
def test_a_delta_of_a_dense_table_holds_the_shards_own_rows(given_up: bool) -> None:
    shard, own = half_moved_shard()
    if given_up:
        foreign = np.setdiff1d(np.arange(1024), shard.partition.buckets_at(0))
        shard.forget_buckets(foreign)
        changed = shard.tables["d"].changed_keys(0)
        assert changed is not None
        assert changed.tolist() == sorted_by_hash(own).tolist()
    part = shard.part(0)
    assert part is not None
    ((keys, payload),) = part.tables[1].chunks
    assert 0 < len(own) < 64
    assert keys.tolist() == sorted_by_hash(own).tolist()
    assert payload.tolist() == [[1]] * len(own)


def sorted_by_hash(keys: np.ndarray) -> np.ndarray:
    return keys[np.argsort(hash_keys(keys))]


@pytest.mark.parametrize(
    ("since", "broken"), [(0, "filter_delta"), (0, "begin_snapshot"), (None, "extras")]
)
def test_a_cut_that_fails_half_way_is_forgotten(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, since: int | None, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError(broken)

    monkeypatch.setattr(shard.tables["b"], broken, fail)
    with pytest.raises(MemoryError, match=broken):
        shard.part(since)
    assert open_snapshots(shard) == 0


def test_a_cut_whose_vectors_cannot_be_copied_is_forgotten(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard.create_vector("v", 5, None)
    monkeypatch.setattr(shard.vectors["v"], "values", None)
    with pytest.raises(AttributeError):
        shard.part(None)
    assert open_snapshots(shard) == 0
