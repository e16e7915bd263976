"""Pictures become batches and are kept as bytes, which training sees as the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from weiml.data import BatchDataset, image_batches, write_batches
from weiml.errors import DataError

WIDTH = 12


def pictures(count: int, seed: int = 1) -> tuple[pa.Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, WIDTH), np.uint8)
    rows = [pixel.tobytes() for pixel in pixels]
    label = pa.array(rng.integers(0, 10, count), pa.int8())
    return pa.table({"label": label, "image": pa.array(rows, pa.binary(WIDTH))}), pixels


def test_pixels_are_dense_columns() -> None:
    table, pixels = pictures(10)
    table = pa.concat_tables([table.slice(3, 4), table.slice(0, 2)])  # parts with an offset
    batches = list(image_batches(table, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 1, 2]
    dense = np.concatenate([batch.dense for batch in batches])
    np.testing.assert_array_equal(dense, pixels[[3, 4, 5, 6, 0, 1]])
    labels = np.concatenate([batch.labels[:, 0] for batch in batches])
    assert labels.tolist() == table["label"].to_pylist()
    assert np.concatenate([batch.items for batch in batches]).tolist() == list(range(6))
    for batch in batches:
        batch.validate()
    assert batches[0].dense_names[-1] == "pixel_11"


def test_a_missing_label_is_nan_and_a_missing_image_an_error() -> None:
    table, _ = pictures(2)
    (batch,) = image_batches(table.set_column(0, "label", pa.array([None, 1], pa.int8())))
    assert np.isnan(batch.labels[0, 0])
    hole = pa.array([None, b"x" * WIDTH], pa.binary(WIDTH))
    with pytest.raises(DataError, match="1 images are missing"):
        list(image_batches(table.set_column(1, "image", hole)))


def test_other_columns_are_told() -> None:
    table, _ = pictures(2)
    with pytest.raises(DataError, match="'picture'"):
        list(image_batches(table, image="picture"))
    with pytest.raises(DataError, match="fixed-size binary, the pixels, got int8"):
        list(image_batches(table, image="label"))


def test_packed_they_take_a_quarter_and_read_the_same(tmp_path: Path) -> None:
    table, pixels = pictures(2000)
    sets = {
        name: write_batches(
            image_batches(table), tmp_path / name, packed=name == "packed", examples_per_part=300
        )
        for name in ("packed", "plain")
    }
    packed, plain = sets["packed"], sets["plain"]
    np.testing.assert_array_equal(packed.read().dense, pixels)
    orders: list[dict[str, Any]] = [{}, {"seed": 5}, {"seed": 5, "shuffle_parts": 2}]
    for order in orders:
        pairs = zip(
            packed.iter_batches(64, worker=1, num_workers=3, **order),
            plain.iter_batches(64, worker=1, num_workers=3, **order),
            strict=True,
        )
        for ours, theirs in pairs:
            ours.validate()
            np.testing.assert_array_equal(ours.dense, theirs.dense)
            np.testing.assert_array_equal(ours.items, theirs.items)
    bytes_of = {
        name: sum(file.stat().st_size for file in dataset.folder.glob("*.arrow"))
        for name, dataset in sets.items()
    }
    assert bytes_of["plain"] - bytes_of["packed"] == pytest.approx(3 * pixels.size, rel=0.1)


def test_an_empty_packed_set_knows_its_columns(tmp_path: Path) -> None:
    (batch,) = image_batches(pictures(1)[0])
    dataset = write_batches([batch.slice(0, 0)], tmp_path / "none", packed=True)
    assert dataset.read().dense.shape == (0, WIDTH)
    assert list(BatchDataset.open(dataset.folder).iter_batches(4, seed=1)) == []


def test_numbers_that_are_no_bytes_are_not_packed(tmp_path: Path) -> None:
    (batch,) = image_batches(pictures(3)[0])
    for number in (0.5, 256.0, -1.0, np.nan):
        batch.dense[2, 5] = number
        with pytest.raises(DataError, match=rf"column 'pixel_5' holds {number}"):
            write_batches([batch], tmp_path / "set", packed=True)
        assert not list(tmp_path.iterdir())
