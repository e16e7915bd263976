"""A chain gives what the group held, to any number of shards, and no byte of what is damaged."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ps.checkpoint.state import (
    DEEP,
    DENSE,
    WIDE,
    State,
    random_rows,
    rows_of,
    trained,
    vectors_of,
)
from weiml.errors import ParameterServerError
from weiml.ps import Partition
from weiml.ps.checkpoint import (
    Chain,
    Checkpoint,
    CheckpointWriter,
    Folder,
    ShardPart,
    TablePart,
    open_checkpoint,
    write_shard,
)
from weiml.ps.checkpoint.manifest import FileEntry
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.changes import hash_keys

SHARDS = st.integers(1, 5)
KEYS = st.one_of(st.integers(0, 40), st.sampled_from([0, 2**64 - 1, 2**63]))


def save(
    root: str,
    name: str,
    state: State,
    num_shards: int = 2,
    parent: str | None = None,
    part_bytes: int = 1 << 12,
    chunk: int = 7,
) -> Chain:
    base = None if parent is None else Checkpoint.open(Folder.at(root) / parent).manifest
    with CheckpointWriter(
        f"{root}/{name}",
        num_buckets=state.num_buckets,
        time_s=0,
        parent=base,
        part_bytes=part_bytes,
    ) as writer:
        writer.commit(state.write(writer.spec, num_shards, chunk))
    return open_checkpoint(f"{root}/{name}")


def same(chain: Chain, state: State, num_shards: int, num_buckets: int) -> None:
    assert rows_of(chain, num_shards, num_buckets) == state.tables
    vectors = vectors_of(chain, num_shards, num_buckets)
    assert vectors.keys() == state.vectors.keys()
    for name, values in vectors.items():
        assert np.array_equal(values, state.vectors[name])


@given(
    before=SHARDS,
    after=SHARDS,
    saved_bits=st.integers(3, 8),
    read_bits=st.integers(3, 8),
    chunk=st.integers(1, 50),
    part_bytes=st.sampled_from([1, 1 << 11, 1 << 20]),
    seed=st.integers(0, 1000),
)
def test_any_split_loads_on_any_other(
    before: int, after: int, saved_bits: int, read_bits: int, chunk: int, part_bytes: int, seed: int
) -> None:
    state = trained(np.random.default_rng(seed), num_keys=60)
    state.num_buckets = 1 << saved_bits
    root = f"memory://{uuid.uuid4().hex}"
    chain = save(root, "x", state, before, part_bytes=part_bytes, chunk=chunk)
    same(chain, state, after, 1 << read_bits)
    Folder.at(root).remove()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["wide", "deep"]), st.lists(KEYS, max_size=9)),
        st.tuples(st.just("delete"), st.sampled_from(["wide", "deep"]), st.lists(KEYS, max_size=9)),
        st.tuples(st.just("dense"), st.just(""), st.lists(st.integers(0, 99), max_size=9)),
        st.tuples(st.just("vector"), st.sampled_from(["a", "b"]), st.lists(KEYS, max_size=1)),
        st.tuples(st.just("drop"), st.sampled_from(["a", "b"]), st.just([])),
        st.tuples(st.just("save"), st.just(""), st.just([])),
    ),
    max_size=25,
)


@given(steps=STEPS, saving=SHARDS, reading=SHARDS)
def test_a_full_one_and_its_deltas_are_the_state_itself(
    steps: list[tuple[str, str, list[int]]], saving: int, reading: int
) -> None:
    rng = np.random.default_rng(len(steps))
    state, root = State(), f"memory://{uuid.uuid4().hex}"
    names = ["0"]
    save(root, names[-1], state, saving)
    for what, name, keys in [*steps, ("save", "", [])]:
        if what == "put":
            config = WIDE if name == "wide" else DEEP
            state.put(name, random_rows(config, keys, rng))
        elif what == "delete":
            state.delete(name, keys)
        elif what == "dense":
            state.put("dense", random_rows(DENSE, keys, rng))
        elif what == "vector":
            length = 10 if keys else 77
            state.set_vector(name, rng.normal(size=length).astype(np.float32))
        elif what == "drop":
            state.vectors.pop(name, None)
        else:
            names.append(str(len(names)))
            chain = save(root, names[-1], state, saving, parent=names[-2])
            same(chain, state, reading, 64)
    assert len(chain.checkpoints) == len(names)
    Folder.at(root).remove()


def test_a_delta_holds_only_what_changed(tmp_path: Path, rng: np.random.Generator) -> None:
    state = trained(rng)
    save(str(tmp_path), "a", state, 1)
    state.put("wide", random_rows(WIDE, [5, 6], rng))
    state.delete("deep", [0])
    files = save(str(tmp_path), "b", state, 1, parent="a").newest.files
    assert [(entry.kind, entry.name, entry.rows) for entry in files] == [
        ("rows", "wide", 2),
        ("extra", "wide", 6),
        ("deleted", "deep", 1),
    ]


def test_files_without_a_wanted_bucket_are_not_opened(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    chain = save(str(tmp_path), "a", trained(rng), num_shards=4)
    for entry in chain.newest.files:
        if entry.kind in ("rows", "deleted", "vector") and entry.shard != 2:
            (tmp_path / "a" / entry.path).unlink()
    for num_buckets in (16, 64, 256):
        wanted = Partition(4, num_buckets).buckets_at(2)
        assert sum(len(found.keys) for found in chain.rows(wanted, num_buckets)) > 20
        assert len(chain.vector_values(wanted, num_buckets)["v"]) > 70
    with pytest.raises(ParameterServerError, match="it is missing"):
        list(chain.rows(Partition(4, 64).buckets_at(1), 64))


def test_one_bucket_is_read_from_one_or_two_of_the_files_of_a_table_in_bucket_order(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = rng.integers(0, 2**64, 400_000, dtype=np.uint64)
    buckets = buckets_of_keys(keys, 64)
    keys = keys[np.argsort(buckets, kind="stable")]
    table = TablePart(config=DEEP, chunks=[(keys, np.zeros((len(keys), 3), np.uint32))])
    part = ShardPart(index=0, sequence=1, buckets=np.arange(64), tables=[table])
    with CheckpointWriter(tmp_path / "a", num_buckets=64, time_s=0, part_bytes=1) as writer:
        writer.commit([write_shard(writer.spec, part)])
    chain = open_checkpoint(tmp_path / "a")
    spans = [entry.buckets or (0, 0) for entry in chain.newest.files]
    assert len(spans) >= 8
    assert all(one[1] <= other[0] + 1 for one, other in pairwise(spans))
    for entry in chain.newest.files:
        low, high = entry.buckets or (0, 0)
        if not low <= 40 <= high:
            (tmp_path / "a" / entry.path).unlink()
    assert len(list((tmp_path / "a").rglob("*.arrow"))) <= 2
    found = sum(len(rows.keys) for rows in chain.rows(np.array([40]), 64))
    assert found == np.count_nonzero(buckets == 40)


@pytest.fixture
def large(tmp_path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Write tmp_path/a: four files of rows of DEEP; return its keys by hash, and payloads."""
    keys = rng.integers(0, 2**64, 300_000, dtype=np.uint64)
    keys = keys[np.argsort(hash_keys(keys))]
    payload = rng.integers(0, 2**32, (len(keys), 3), dtype=np.uint32)
    table = TablePart(config=DEEP, chunks=[(keys, payload)])
    part = ShardPart(index=0, sequence=1, buckets=np.arange(64), tables=[table])
    with CheckpointWriter(tmp_path / "a", num_buckets=64, time_s=0, part_bytes=1 << 20) as writer:
        writer.commit([write_shard(writer.spec, part)])
    return keys, payload


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weiml.ps.checkpoint.chain.is_cached", lambda place: False)


@pytest.mark.usefixtures("uncached")
def test_large_files_come_past_the_cache_and_stay_while_they_are_referred_to(
    tmp_path: Path, large: tuple[np.ndarray, np.ndarray]
) -> None:
    chain = open_checkpoint(tmp_path / "a")
    assert len([e for e in chain.newest.files if e.bytes > 1 << 20]) >= 3
    kept = list(chain.rows())
    assert np.array_equal(np.concatenate([rows.keys for rows in kept]), large[0])
    payloads = [rows.payload for rows in kept if rows.payload is not None]
    assert np.array_equal(np.concatenate(payloads), large[1])


@pytest.mark.usefixtures("uncached", "large")
def test_damage_of_files_that_come_past_the_cache_is_found(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    chain = open_checkpoint(tmp_path / "a")
    file = tmp_path / "a" / chain.newest.files[1].path
    good = file.read_bytes()
    bad = bytearray(good)
    bad[int(rng.integers(len(good)))] ^= 0x11
    for damaged in (bytes(bad), good[:-1], good + b"x", good[: 1 << 19], b""):
        file.write_bytes(damaged)
        with pytest.raises(ParameterServerError, match=f"{file.name} is damaged: it"):
            list(chain.rows())
    file.unlink()
    with pytest.raises(ParameterServerError, match=f"{file.name} is damaged: it is missing"):
        list(chain.rows())


@given(saved_bits=st.integers(2, 5), read_bits=st.integers(1, 6), num_shards=SHARDS)
def test_the_rows_expected_of_each_bucket_are_those_of_its_writers_spread_evenly(
    saved_bits: int, read_bits: int, num_shards: int
) -> None:
    state = trained(np.random.default_rng(1))
    state.num_buckets = 1 << saved_bits
    num_shards = min(num_shards, state.num_buckets)
    chain = save(f"memory://{uuid.uuid4().hex}", "a", state, num_shards)
    manifest, num_buckets = chain.newest, 1 << read_bits
    written = np.zeros(state.num_buckets)
    for entry in manifest.files:
        if entry.kind == "rows" and entry.name == "wide":
            held = manifest.shards[entry.shard].held
            written[held] += entry.rows / len(held)
    fine = np.repeat(written, 64) / 64
    expected = fine.reshape(num_buckets, -1).sum(axis=1)
    found = chain.expected_rows(num_buckets=num_buckets)
    assert found.keys() == {config.name for config in chain.tables}
    assert found["wide"] == pytest.approx(expected)
    some = chain.expected_rows(np.array([1]), num_buckets)["wide"]
    assert np.flatnonzero(some).tolist() == ([1] if expected[1] else [])
    assert some[1] == found["wide"][1]


def test_the_rows_expected_are_counted_in_one_pass_over_the_files(
    rng: np.random.Generator,
) -> None:
    class Counted(tuple[FileEntry, ...]):
        passes = 0

        def __iter__(self) -> Iterator[FileEntry]:
            Counted.passes += 1
            return super().__iter__()

    chain = save(f"memory://{uuid.uuid4().hex}", "a", trained(rng), 5)
    checkpoint = chain.checkpoints[0]
    manifest = replace(checkpoint.manifest, files=Counted(checkpoint.manifest.files))
    Counted.passes = 0
    counted = Chain((replace(checkpoint, manifest=manifest),)).expected_rows()
    assert Counted.passes == 1
    for name, rows in chain.expected_rows().items():
        assert np.array_equal(counted[name], rows)


def test_extras_come_in_the_order_of_the_checkpoints(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    state = trained(rng)
    save(str(tmp_path), "a", state, 2)
    chain = save(str(tmp_path), "b", state, 2, parent="a")
    wanted = Partition(4, 64).buckets_at(3)
    found = list(chain.extras(wanted, 64))
    assert [(extra.table, extra.shard) for extra in found] == [("wide", 1)] * 2
    assert found[0].buckets.tolist() == list(range(32, 64))
    array = found[0].arrays["seen"]
    assert array.dtype == np.uint16
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert len(list(chain.extras())) == 4


def test_tables_can_be_chosen(tmp_path: Path, rng: np.random.Generator) -> None:
    chain = save(str(tmp_path), "a", trained(rng))
    assert {found.config.name for found in chain.rows(tables=["deep"])} == {"deep"}


def test_the_files_are_plain_arrow_as_documented(tmp_path: Path, rng: np.random.Generator) -> None:
    state = trained(rng)
    chain = save(str(tmp_path), "a", state, 1, part_bytes=1 << 20)
    table = pa.ipc.open_file(str(tmp_path / "a/shard-00000/rows-wide-00000.arrow")).read_all()
    assert table.schema.names == ["key", "state", "count", "clicks"]
    assert dict(zip(table["key"].to_pylist(), table["count"].to_pylist(), strict=True)) == {
        key: row[2] for key, row in state.tables["wide"].items()
    }
    vector = pa.ipc.open_file(str(tmp_path / "a/shard-00000/vector-v-00000.arrow")).read_all()
    assert np.array_equal(vector["value"].to_numpy(), state.vectors["v"])
    assert {e.ranges for e in chain.newest.files if e.name == "v"} == {((0, 301),)}


# Damage


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return the delta of a full one and a delta, both with files of every kind."""
    state = trained(rng)
    save(str(tmp_path), "a", state)
    state.put("wide", random_rows(WIDE, [5], rng))
    state.put("dense", random_rows(DENSE, [0, 99], rng))
    state.delete("deep", [0])
    state.set_vector("v", np.ones(301, np.float32))
    save(str(tmp_path), "b", state, parent="a")
    return tmp_path / "b"


def read_all(place: Path) -> None:
    chain = open_checkpoint(place)
    for _ in chain.rows():
        pass
    chain.vector_values()
    for _ in chain.extras():
        pass


def damageable(saved: Path) -> list[Path]:
    files = sorted(file for file in saved.parent.rglob("*") if file.is_file())
    assert {file.name.split("-")[0] for file in files} == {
        "manifest.json",
        "rows",
        "deleted",
        "vector",
        "extra",
    }
    return files


def test_every_damaged_byte_is_found_and_named_by_reading_and_by_verifying(
    saved: Path, rng: np.random.Generator
) -> None:
    for file in damageable(saved):
        good = file.read_bytes()
        for place in rng.integers(0, len(good), 4):
            bad = bytearray(good)
            bad[place] ^= 0x11
            file.write_bytes(bytes(bad))
            with pytest.raises(ParameterServerError, match=f"{file.name}.* is damaged"):
                open_checkpoint(saved).verify()
            if file.name != "manifest.json":
                with pytest.raises(ParameterServerError, match=f"{file.name} is damaged"):
                    read_all(saved)
        file.write_bytes(good)
    read_all(saved)


def test_files_too_short_and_too_long_are_found_by_their_size_alone(saved: Path) -> None:
    for file in damageable(saved):
        if file.name == "manifest.json":
            continue
        good = file.read_bytes()
        for bad in (good[:-1], good + b"x", b""):
            file.write_bytes(bad)
            for checkpoint in open_checkpoint(saved).checkpoints:
                if file.is_relative_to(checkpoint.folder.place):
                    with pytest.raises(
                        ParameterServerError, match=f"{file.name} is damaged: it has"
                    ):
                        checkpoint.check_sizes()
                else:
                    checkpoint.check_sizes()
            with pytest.raises(ParameterServerError, match=f"{file.name} is damaged: it has"):
                open_checkpoint(saved).verify()
        file.write_bytes(good)


def test_a_missing_file_is_named(saved: Path) -> None:
    for file in damageable(saved):
        good = file.read_bytes()
        file.unlink()
        with pytest.raises(ParameterServerError, match=f"{file.name}"):
            open_checkpoint(saved).verify()
        file.write_bytes(good)


def test_no_row_of_a_damaged_file_is_given_out(saved: Path) -> None:
    chain = open_checkpoint(saved)
    first = next(e for e in chain.checkpoints[0].manifest.files if e.kind == "rows")
    file = saved.parent / "a" / first.path
    bad = bytearray(file.read_bytes())
    bad[-30] ^= 1  # behind all rows
    file.write_bytes(bad)
    with pytest.raises(ParameterServerError, match="is damaged"):
        next(chain.rows())


def test_a_missing_file_in_an_object_store_is_named(bucket: str, rng: np.random.Generator) -> None:
    root = f"{bucket}/{uuid.uuid4().hex}"
    chain = save(root, "a", trained(rng))
    entry = chain.newest.files[0]
    chain.checkpoints[0].folder.remove_file(entry.path)
    with pytest.raises(ParameterServerError, match=f"{entry.path} is damaged: it is missing"):
        chain.verify()


def test_a_delta_does_not_go_on_from_another_checkpoint_of_the_same_name(
    saved: Path, rng: np.random.Generator
) -> None:
    shutil.rmtree(saved.parent / "a")
    with pytest.raises(ParameterServerError, match="goes on from a, which cannot be used"):
        open_checkpoint(saved)
    save(str(saved.parent), "a", trained(rng))
    with pytest.raises(ParameterServerError, match="goes on from another a than the one"):
        open_checkpoint(saved)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterServerError, match=r"has no manifest\.json"):
        open_checkpoint(tmp_path)


def test_missing_numbers_of_a_vector_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    state = trained(rng)
    save(str(tmp_path), "a", State(vectors={}))
    other = State(vectors=state.vectors, sequence=1, base=1)
    chain = save(str(tmp_path), "b", other, parent="a")
    with pytest.raises(ParameterServerError, match="lacks 301 numbers of vector 'v'"):
        chain.vector_values()
