from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
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
    small=st.booleans(),
    drop_last=st.booleans(),
)
def test_workers_see_disjoint_parts_of_equal_length(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    workers: int,
    seed: int | None,
    small: bool,
    drop_last: bool,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "shared"
    if not folder.exists():
        write_batches([make(103)], folder, examples_per_part=10)
    dataset = BatchDataset.open(folder)
    whole = dataset.read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "_SMALL_EXAMPLES", 1000 if small else 50)
        seen = [
            list(
                dataset.iter_batches(
                    size, seed=seed, worker=w, num_workers=workers, drop_last=drop_last
                )
            )
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


@pytest.mark.parametrize("small", [True, False])
def test_shuffling_is_fixed_by_seed_and_epoch(
    dataset: BatchDataset, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(batches_module, "_SMALL_EXAMPLES", 1000 if small else 50)

    def order(seed: int, epoch: int) -> list[int]:
        return times(list(dataset.iter_batches(16, seed=seed, epoch=epoch)))

    assert sorted(order(1, 0)) == list(range(103))
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    moved = np.abs(np.array(order(1, 0)) - np.arange(103)).mean()
    assert moved > 15, "examples go far from where they were"


def test_big_sets_hold_four_parts_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_batches([make(200)], tmp_path / "set", examples_per_part=10)
    monkeypatch.setattr(batches_module, "_SMALL_EXAMPLES", 50)
    order = np.array(times(list(dataset.iter_batches(7, seed=5))))
    for start in range(0, 200, 40):
        parts = np.unique(order[start : start + 40] // 10)
        assert len(parts) == 4


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


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_batches([make(3)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
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
    ("wrong", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_workers": 0}, "num_workers"),
        ({"worker": 2, "num_workers": 2}, "worker"),
        ({"worker": -1}, "worker"),
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
