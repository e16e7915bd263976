from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weiml.data.batches.dataset as batches_module
from weiml.data.batches import BatchDataset, write_batches
from weiml.errors import ConfigError, DataError
from weiml.features import (
    Batch,
    Categorical,
    Continuous,
    FeatureEncoder,
    FeatureSpec,
    KeyNames,
    SparseBinary,
)
from weiml.hashing import feature_seed

SPEC = FeatureSpec(
    features=(Categorical("user_id"), SparseBinary("genres"), Continuous("age", buckets=2))
)


def raw(n: int) -> pa.Table:
    rng = np.random.default_rng(n)
    return pa.table(
        {
            "user_id": rng.integers(1, 9, n),
            "item_id": np.arange(n),
            "genres": pa.array(
                [["a", "b", "c"][: rng.integers(0, 4)] for _ in range(n)], pa.list_(pa.string())
            ),
            "age": rng.random(n),
            "timestamp": np.arange(n),
            "label": rng.integers(0, 2, n),
        }
    )


ENCODER = FeatureEncoder(SPEC).fit(raw(50))


def make(n: int) -> Batch:
    return ENCODER.encode(raw(n))


def assert_equal(a: Batch, b: Batch) -> None:
    assert (a.slots, a.dense_names) == (b.slots, b.dense_names)
    for name in ("labels", "weights", "dense", "keys", "offsets", "groups", "items", "times"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def times(batches: list[Batch]) -> list[int]:
    return [int(t) for batch in batches for t in batch.times]


@pytest.fixture
def dataset(tmp_path: Path) -> BatchDataset:
    return write_batches([make(103)], tmp_path / "set", encoder=ENCODER, examples_per_part=20)


@pytest.mark.parametrize("as_tables", [False, True])
@pytest.mark.parametrize("cuts", [[103], [1, 0, 60, 42], [50, 53]])
def test_what_was_written_is_read(tmp_path: Path, as_tables: bool, cuts: list[int]) -> None:
    whole = make(103)
    ends = np.cumsum(cuts)
    pieces = [whole.slice(int(e - c), int(e)) for c, e in zip(cuts, ends, strict=True)]
    given_ = [piece.to_arrow() for piece in pieces] if as_tables else pieces
    dataset = write_batches(given_, tmp_path / "set", examples_per_part=20)
    assert_equal(dataset.read(), whole)
    assert dataset.num_examples == len(dataset) == 103
    assert dataset.slots == whole.slots
    assert dataset.dense_names == whole.dense_names
    assert dataset.counts == {"keys": whole.keys.size, "positives": int(whole.labels.sum())}
    assert len(list(dataset.folder.glob("part-*.arrow"))) == 6


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 110),
    workers=st.integers(1, 5),
    seed=st.none() | st.integers(0, 3),
    mixed=st.none() | st.integers(1, 12),
    drop_last=st.booleans(),
)
def test_workers_see_disjoint_parts_of_equal_length(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    workers: int,
    seed: int | None,
    mixed: int | None,
    drop_last: bool,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "shared"
    if not folder.exists():
        write_batches([make(103)], folder, examples_per_part=10)
    dataset = BatchDataset.open(folder)
    whole = dataset.read()
    order: dict[str, Any] = {"seed": seed, "drop_last": drop_last, "shuffle_parts": mixed}
    seen = [
        list(dataset.iter_batches(size, **order, worker=w, num_workers=workers))
        for w in range(workers)
    ]
    per_worker = 103 // workers
    if drop_last:
        per_worker -= per_worker % size
    assert [len(times(part)) for part in seen] == [per_worker] * workers
    flat = [t for part in seen for t in times(part)]
    assert len(set(flat)) == len(flat)
    for part in seen:
        sizes = [batch.num_examples for batch in part]
        assert all(s == size for s in sizes[:-1])
        for batch in part:
            batch.validate()
            assert_equal(batch, whole.take(batch.times))
    if seed is None:
        assert flat == sorted(flat)


@pytest.mark.parametrize("mixed", [None, 4])
def test_shuffling_is_fixed_by_seed_and_epoch(dataset: BatchDataset, mixed: int | None) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = dataset.iter_batches(16, seed=seed, epoch=epoch, shuffle_parts=mixed)
        return times(list(batches))

    assert sorted(order(1, 0)) == list(range(103))
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    moved = np.abs(np.array(order(1, 0)) - np.arange(103)).mean()
    assert moved > 15, "examples go far from where they were"


@pytest.mark.parametrize("mixed", [1, 2, 5])
def test_so_many_parts_are_mixed_at_a_time(tmp_path: Path, mixed: int) -> None:
    dataset = write_batches([make(200)], tmp_path / "set", examples_per_part=10)
    order = np.array(times(list(dataset.iter_batches(7, seed=5, shuffle_parts=mixed))))
    for start in range(0, 200, 10 * mixed):
        parts = np.unique(order[start : start + 10 * mixed] // 10)
        assert len(parts) == mixed


def test_small_sets_are_mixed_as_a_whole_and_big_ones_four_parts_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_batches([make(200)], tmp_path / "set", examples_per_part=10)

    def order(mixed: int | None) -> list[int]:
        return times(list(dataset.iter_batches(7, seed=5, shuffle_parts=mixed)))

    assert order(None) == order(20)
    monkeypatch.setattr(batches_module, "_SMALL_EXAMPLES", 199)
    assert order(None) == order(4)


def test_the_keys_are_mapped_not_copied(dataset: BatchDataset) -> None:
    first = next(dataset.iter_batches(8))
    assert not first.keys.flags.owndata
    assert not first.keys.flags.writeable


def test_spec_and_encoder_are_kept(dataset: BatchDataset) -> None:
    assert dataset.spec == SPEC
    assert_equal(dataset.encoder().encode(raw(10)), make(10))
    assert_equal(pickle.loads(pickle.dumps(dataset)).read(), dataset.read())


def test_a_dataset_may_be_empty_but_knows_its_columns(tmp_path: Path) -> None:
    dataset = write_batches([make(5).slice(0, 0)], tmp_path / "set")
    assert dataset.num_examples == 0
    assert dataset.read().slots == SPEC.slots
    assert list(dataset.iter_batches(3, seed=1)) == []
    with pytest.raises(DataError, match="at least one batch"):
        write_batches([], tmp_path / "none")


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    other = FeatureEncoder(FeatureSpec(features=(Categorical("user_id"),))).encode(raw(30))
    with pytest.raises(DataError, match="columns"):
        write_batches([make(20), other], tmp_path / "set", examples_per_part=20)
    assert not list(tmp_path.iterdir())


def labelled(n: int, labels: int) -> Batch:
    return replace(make(n), labels=np.arange(n * labels, dtype=np.float32).reshape(n, labels))


@pytest.mark.parametrize("counts", [(20, 20), (7, 20), (20, 7)])
@pytest.mark.parametrize("widths", [(1, 2), (2, 1)])
def test_batches_of_other_numbers_of_labels_do_not_mix(
    tmp_path: Path, counts: tuple[int, int], widths: tuple[int, int]
) -> None:
    batches = [labelled(n, labels) for n, labels in zip(counts, widths, strict=True)]
    with pytest.raises(DataError, match="batch 1 does not go with those before it: .*labels"):
        write_batches(batches, tmp_path / "set", examples_per_part=20)
    assert not list(tmp_path.iterdir())


def test_parts_of_other_columns_are_noticed_when_read(tmp_path: Path) -> None:
    dataset = write_batches([labelled(20, 1)] * 2, tmp_path / "set", examples_per_part=20)
    other = write_batches([labelled(20, 2)], tmp_path / "other")
    _replace_part(dataset.folder, 1, (other.folder / "part-00000.arrow").read_bytes())
    for seed in (None, 1):
        opened = BatchDataset.open(dataset.folder)
        with pytest.raises(DataError, match=r"part-00001.arrow does not go with .*labels"):
            list(opened.iter_batches(15, seed=seed))
    _replace_part(dataset.folder, 0, (other.folder / "part-00000.arrow").read_bytes())
    assert BatchDataset.open(dataset.folder).read().labels.shape == (40, 2)
    users = FeatureEncoder(FeatureSpec(features=(Categorical("user_id"),))).encode(raw(20))
    narrow = write_batches([users], tmp_path / "narrow").folder / "part-00000.arrow"
    for at in (0, 1):
        _replace_part(dataset.folder, at, narrow.read_bytes())
        with pytest.raises(DataError, match=f"part-0000{1 - at}.arrow .*|part-0000{at}.arrow .*"):
            BatchDataset.open(dataset.folder).read()


def _replace_part(folder: Path, at: int, data: bytes) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["parts"][at]["bytes"] = len(data)
    (folder / manifest["parts"][at]["file"]).write_bytes(data)
    (folder / "dataset.json").write_text(json.dumps(manifest))


def test_folders_of_format_1_are_read(tmp_path: Path) -> None:
    """Whose parts all have lengths, also where each slot has one key."""
    spec = FeatureSpec(features=(Categorical("user_id"), Categorical("item_id")))
    batch = FeatureEncoder(spec).encode(raw(50))
    dataset = write_batches([batch], tmp_path / "set", examples_per_part=20)
    manifest = json.loads((dataset.folder / "dataset.json").read_text())
    manifest["format"] = 1
    del manifest["labels"]
    for at, part in enumerate(manifest["parts"]):
        path = dataset.folder / part["file"]
        table = batch.slice(20 * at, 20 * at + 20).to_arrow()
        assert "lengths" in table.column_names
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        part["bytes"] = path.stat().st_size
    (dataset.folder / "dataset.json").write_text(json.dumps(manifest))
    old = BatchDataset.open(dataset.folder)
    assert_equal(old.read(), batch)
    shuffled = Batch.concat(list(old.iter_batches(9, seed=4)))
    assert_equal(shuffled, batch.take(shuffled.times))


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_batches([make(3)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    for path in (tmp_path / "mine.txt", tmp_path / "mine.txt" / "below"):
        with pytest.raises(DataError, match=r"mine\.txt"):
            write_batches(iter(()), path)
    (tmp_path / "empty").mkdir()
    assert write_batches([make(3)], tmp_path / "empty").num_examples == 3


def test_damage_is_noticed_when_opening(dataset: BatchDataset) -> None:
    part = dataset.folder / "part-00002.arrow"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"part-00002\.arrow has \d+ bytes"):
        BatchDataset.open(dataset.folder)
    with pytest.raises(DataError, match="is not a dataset folder"):
        BatchDataset.open(part)
    part.unlink()
    with pytest.raises(DataError, match=r"part-00002\.arrow"):
        BatchDataset.open(dataset.folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "damaged"), ("{}", "damaged"), ('{"format": 99}', "format 99"), (None, "dataset.json")],
)
def test_a_damaged_manifest_is_a_data_error(
    dataset: BatchDataset, text: str | None, said: str
) -> None:
    manifest = dataset.folder / "dataset.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(DataError, match=said):
        BatchDataset.open(dataset.folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pop("num_examples"), "num_examples"),
        (lambda m: m.pop("slots"), "slots"),
        (lambda m: m.pop("counts"), "counts"),
        (lambda m: m.update(num_examples=5), "'num_examples' is 5, but its parts hold 103"),
        (lambda m: m.update(num_examples=0, parts=[]), "'parts' is empty"),
        (lambda m: m["parts"][0].pop("examples"), "examples"),
        (lambda m: m["parts"][0].update(examples=-1), "its two sizes"),
        (lambda m: m["parts"][0].update(examples="x"), "its two sizes"),
        (lambda m: m["parts"][0].update(file="../x"), "a file of the folder"),
    ],
)
def test_a_manifest_that_lacks_something_is_a_data_error(
    dataset: BatchDataset, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    path = dataset.folder / "dataset.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=rf"dataset\.json is damaged: .*{said}"):
        BatchDataset.open(dataset.folder)


def test_a_damaged_part_is_named(dataset: BatchDataset) -> None:
    part = dataset.folder / "part-00001.arrow"
    whole = part.read_bytes()
    for data, said in (
        (bytes(len(whole)), r"part-00001\.arrow is damaged"),
        (whole.replace(b"weiml.batch", b"weiml.botch"), r"part-00001\.arrow is damaged"),
        ((dataset.folder / "part-00005.arrow").read_bytes(), r"holds 3 .* says 20"),
    ):
        _replace_part(dataset.folder, 1, data)
        for seed in (None, 1):
            with pytest.raises(DataError, match=said):
                list(BatchDataset.open(dataset.folder).iter_batches(8, seed=seed))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_workers": 0}, "num_workers"),
        ({"worker": 2, "num_workers": 2}, "worker"),
        ({"worker": -1}, "worker"),
        ({"shuffle_parts": 0}, "shuffle_parts"),
    ],
)
def test_arguments_are_checked_at_once(
    dataset: BatchDataset, wrong: dict[str, Any], name: str
) -> None:
    with pytest.raises(ConfigError, match=name):
        dataset.iter_batches(**{"batch_size": 4, **wrong})


def test_the_manifest_says_what_is_there(dataset: BatchDataset) -> None:
    manifest = json.loads((dataset.folder / "dataset.json").read_text())
    assert [part["examples"] for part in manifest["parts"]] == [20] * 5 + [3]
    assert manifest["num_examples"] == 103


def test_names_are_collected_while_batches_are_written(tmp_path: Path) -> None:
    names = KeyNames()

    def batches() -> Iterator[Batch]:
        for n in (30, 20):
            names.add(SPEC, raw(n))
            yield make(n)

    dataset = write_batches(batches(), tmp_path / "set", encoder=ENCODER, names=names)
    described = BatchDataset.open(tmp_path / "set").names().describe(dataset.read().keys)
    assert set(described["feature"].to_pylist()) == {"user_id", "genres", "age"}
    manifest = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert manifest["features"][0] == {
        "id": f"0x{int(feature_seed('user_id')):016x}",
        "feature": "user_id",
        "type": "categorical",
    }
    with pytest.raises(DataError, match="no key names at"):
        write_batches([make(5)], tmp_path / "other").names()
