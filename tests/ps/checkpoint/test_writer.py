"""A checkpoint appears whole or not at all, and only when its parts make a whole."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from tests.ps.checkpoint.state import DEEP, State, rows_of, trained, vectors_of
from weiml.errors import ParameterServerError
from weiml.ps.checkpoint import (
    CheckpointSpec,
    CheckpointWriter,
    Folder,
    ShardRecord,
    open_checkpoint,
    write_checkpoint,
)


def write(place: str, state: State, num_shards: int = 2, **fields: Any) -> None:
    with CheckpointWriter(place, num_buckets=64, time_s=5.0, **fields) as writer:
        writer.commit(state.write(writer.spec, num_shards))


def test_a_checkpoint_comes_back(place: str, rng: np.random.Generator) -> None:
    state = trained(rng)
    write(place, state, about={"group": "g"})
    chain = open_checkpoint(place)
    assert rows_of(chain, 3) == state.tables
    for name, values in vectors_of(chain, 3).items():
        assert np.array_equal(values, state.vectors[name])
    newest = chain.newest
    assert (newest.kind, newest.time_s, newest.num_shards) == ("full", 5.0, 2)
    assert newest.about == {"group": "g"}
    assert newest.controls == (
        {"clients": {"a": 3}, "ticks": [0]},
        {"clients": {"a": 3}, "ticks": [1]},
    )
    assert newest.sequences == (state.sequence,) * 2


def test_nothing_is_seen_before_the_commit(place: str, rng: np.random.Generator) -> None:
    state = trained(rng)
    with CheckpointWriter(place, num_buckets=64, time_s=0) as writer:
        records = state.write(writer.spec)
        with pytest.raises(ParameterServerError, match="does not exist|not a complete"):
            open_checkpoint(place)
        writer.commit(records)
    assert rows_of(open_checkpoint(place)) == state.tables


def test_a_checkpoint_that_is_not_committed_leaves_nothing(
    place: str, rng: np.random.Generator
) -> None:
    with CheckpointWriter(place, num_buckets=64, time_s=0) as writer:
        trained(rng).write(writer.spec)
    writer.abort()
    folder = Folder.at(place)
    assert folder.sizes() == {}
    assert folder.parent.hidden_folders() == []


def test_an_existing_checkpoint_is_not_overwritten(place: str, rng: np.random.Generator) -> None:
    state = trained(rng)
    write(place, state)
    before = Folder.at(place).sizes()
    with pytest.raises(ParameterServerError, match=f"{place} exists already"):
        write(place, state)
    assert Folder.at(place).sizes() == before


def test_of_two_writers_of_one_place_the_first_to_commit_wins(
    place: str, rng: np.random.Generator
) -> None:
    one, other = trained(rng), trained(rng)
    with (
        CheckpointWriter(place, num_buckets=64, time_s=0) as first,
        CheckpointWriter(place, num_buckets=64, time_s=0) as second,
    ):
        late = other.write(second.spec)
        first.commit(one.write(first.spec))
        with pytest.raises(ParameterServerError, match="exists already"):
            second.commit(late)
    assert rows_of(open_checkpoint(place)) == one.tables
    open_checkpoint(place).verify()


def test_the_folder_can_be_copied(tmp_path: Path, rng: np.random.Generator) -> None:
    state = trained(rng)
    write(str(tmp_path / "a"), state)
    os.makedirs(tmp_path / "elsewhere")
    os.rename(tmp_path / "a", tmp_path / "elsewhere" / "b")
    assert rows_of(open_checkpoint(tmp_path / "elsewhere" / "b")) == state.tables


def test_the_specification_travels(place: str, rng: np.random.Generator) -> None:
    state = trained(rng)
    with CheckpointWriter(place, num_buckets=64, time_s=0) as writer:
        spec = pickle.loads(pickle.dumps(writer.spec))
        records = pickle.loads(pickle.dumps(state.write(spec)))
        writer.commit(records)
    chain = pickle.loads(pickle.dumps(open_checkpoint(place)))
    assert rows_of(chain) == state.tables


# Parts that make no whole


def refused(place: str, state: State, change: Any, match: str, **fields: Any) -> None:
    with (
        CheckpointWriter(place, num_buckets=64, time_s=0, **fields) as writer,
        pytest.raises(ParameterServerError, match=match),
    ):
        writer.commit(change(state.write(writer.spec)))
    assert Folder.at(place).sizes() == {}


def test_a_missing_or_repeated_shard_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    def renumbered(records: list[ShardRecord]) -> list[ShardRecord]:
        return [replace(record, shard=replace(record.shard, index=1)) for record in records]

    place, state = str(tmp_path / "x"), trained(rng)
    refused(place, state, lambda records: [], "every shard from 0 on, once; got \\[\\]")
    refused(place, state, lambda records: records[:1], "every shard from 0 on, once; got \\[1\\]")
    refused(place, state, renumbered, "every shard from 0 on, once; got \\[1, 1\\]")


def test_a_bucket_held_by_none_or_two_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    def with_buckets(*runs: tuple[int, int]) -> Any:
        def changed(records: list[ShardRecord]) -> list[ShardRecord]:
            pairs = zip(records, runs, strict=True)
            return [replace(r, shard=replace(r.shard, buckets=(run,))) for r, run in pairs]

        return changed

    place, state = str(tmp_path / "x"), trained(rng)
    refused(place, state, with_buckets((0, 32), (33, 64)), "bucket 32 is held by 0 of 2 shards")
    refused(place, state, with_buckets((0, 32), (31, 64)), "bucket 31 is held by 2 of 2 shards")


def test_a_file_that_the_coordinator_does_not_see_is_refused(
    place: str, rng: np.random.Generator
) -> None:
    with CheckpointWriter(place, num_buckets=64, time_s=0) as writer:
        records = trained(rng).write(writer.spec)
        gone = records[0].files[0]
        writer.spec.folder.remove_file(gone.path)
        with pytest.raises(
            ParameterServerError, match=f"{gone.path}.*storage that all of them share"
        ):
            writer.commit(records)


def test_tables_that_differ_between_shards_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    def differing(records: list[ShardRecord]) -> list[ShardRecord]:
        return [records[0], replace(records[1], tables=(replace(DEEP, seed=5),))]

    refused(str(tmp_path / "x"), trained(rng), differing, "table 'deep' is .*seed=5")


def test_a_table_or_vector_in_the_making_does_no_harm(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    state = trained(rng)
    with CheckpointWriter(tmp_path / "x", num_buckets=64, time_s=0) as writer:
        later, first = state.write(writer.spec)  # shard 1 comes first
        first = replace(first, tables=first.tables[:3], vectors={"v": 301})
        writer.commit([later, first])
    chain = open_checkpoint(tmp_path / "x")
    assert [config.name for config in chain.tables] == ["wide", "deep", "empty", "dense"]
    assert chain.vectors == {"v": 301}


def test_a_delta_that_leaves_a_gap_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    state = trained(rng)
    write(str(tmp_path / "full"), state)
    parent = open_checkpoint(tmp_path / "full").newest
    state.delete("wide", [0])
    state.base += 1
    refused(str(tmp_path / "x"), state, list, "does not go on where its parent full", parent=parent)
    state.base = parent.sequences[0]
    refused(
        str(tmp_path / "x"),
        state,
        lambda records: [
            replace(r, shard=replace(r.shard, buckets=run))
            for r, run in zip(records, (((0, 32),), ((32, 64),)), strict=True)
        ],
        "does not go on .*other buckets of them; write a full",
        parent=parent,
    )


# Other file systems


class FolderFileSystem(LocalFileSystem):
    """Like one over a network where files must lie in folders that exist."""

    protocol = "folders"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("folders://")))


def test_a_file_system_where_folders_must_be_made(tmp_path: Path, rng: np.random.Generator) -> None:
    fsspec.register_implementation("folders", FolderFileSystem, clobber=True)
    state = trained(rng)
    write(f"folders://{tmp_path}/a/b", state)
    assert rows_of(open_checkpoint(f"folders://{tmp_path}/a/b")) == state.tables
    assert (tmp_path / "a" / "b" / "manifest.json").exists()


# Full disks


class FullFileSystem(MemoryFileSystem):
    """Memory that has room for so many bytes."""

    protocol = "full"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    room = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode == "wb":
            file.__class__ = FullFile
        return file


class FullFile(MemoryFile):
    def write(self, data: Any) -> int:
        FullFileSystem.room -= len(data)
        if FullFileSystem.room < 0:
            raise OSError(28, "No space left on device")
        return int(super().write(data))


@pytest.fixture
def full() -> str:
    fsspec.register_implementation("full", FullFileSystem, clobber=True)
    FullFileSystem.store.clear()
    return "full://disk/x"


@pytest.mark.parametrize("room", [0, 7, 1000, 5000, 9000])
def test_a_full_store_is_named_and_nothing_is_left(
    full: str, room: int, rng: np.random.Generator
) -> None:
    FullFileSystem.room = room
    with pytest.raises(ParameterServerError, match=r"full://disk/x/.*: .*No space left on device"):
        write(full, trained(rng))
    assert FullFileSystem.store == {}


def test_the_room_given_above_would_not_have_been_enough(
    full: str, rng: np.random.Generator
) -> None:
    FullFileSystem.room = 10**9
    write(full, trained(rng))
    assert 10**9 - FullFileSystem.room > 9000


_WRITE_WITH_LIMIT = """
import resource, sys
import numpy as np
from tests.ps.checkpoint.state import trained
from weiml.ps.checkpoint import write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
state = trained(np.random.default_rng(1))
write_checkpoint(sys.argv[1], state.write, num_buckets=64, time_s=0)
"""


def test_a_file_that_grows_too_big_is_named_and_nothing_is_left(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_WITH_LIMIT, str(tmp_path / "x")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ParameterServerError" in last
    assert "rows-wide-00000.arrow could not be written: [Errno 27] File too large" in last
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterServerError, match=r"file/.*could not be made.*Not a directory"):
        write(str(tmp_path / "file" / "x"), trained(rng))


def test_a_bucket_that_does_not_exist_is_not_made(bucket: str, rng: np.random.Generator) -> None:
    with pytest.raises(ParameterServerError, match="s3://no-such-bucket/x/.*could not be written"):
        write("s3://no-such-bucket/x", trained(rng))
    assert not fsspec.filesystem("s3").exists("no-such-bucket")


def test_a_shard_that_fails_leaves_nothing(place: str, rng: np.random.Generator) -> None:
    def fail(spec: CheckpointSpec) -> list[ShardRecord]:
        trained(rng).write(spec)
        raise ConnectionError("shard 1 is gone")

    with pytest.raises(ConnectionError, match="shard 1 is gone"):
        write_checkpoint(place, fail, num_buckets=64, time_s=0)
    assert Folder.at(place).sizes() == {}
    assert Folder.at(place).parent.hidden_folders() == []


def test_a_shard_that_writes_on_after_the_abort_adds_nothing(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    state = trained(rng)
    with CheckpointWriter(tmp_path / "x", num_buckets=64, time_s=0) as writer:
        pass
    with pytest.raises(ParameterServerError, match="shard-00001 could not be made"):
        state.write(writer.spec)
    assert list(tmp_path.iterdir()) == []
