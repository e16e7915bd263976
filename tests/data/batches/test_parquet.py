"""Parquet comes back example by example, however files, row groups and batches are cut."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data import BatchSource, ParquetKeys
from weiml.errors import ConfigError, DataError
from weiml.features import Batch

COUNT = 700


@pytest.fixture
def table(rng: np.random.Generator) -> pa.Table:
    keys = rng.integers(0, 2**64, (3, COUNT), np.uint64)
    return pa.table(
        {
            "user": keys[0],
            "clicked": rng.integers(0, 2, COUNT).astype(bool),
            "item": keys[1],
            "age": rng.integers(0, 99, COUNT),
            "price": rng.standard_normal(COUNT).astype(np.float32),
            "importance": rng.uniform(0, 2, COUNT),
            "city": keys[2],
        }
    )


@pytest.fixture
def files(table: pa.Table, tmp_path: Path) -> list[Path]:
    """Three files: of row groups of 90, of a single one, and of none."""
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    pq.write_table(table.slice(0, 400), paths[0], row_group_size=90)
    pq.write_table(table.slice(400), paths[1])
    pq.write_table(table.slice(0, 0), paths[2])
    return [paths[0], paths[2], paths[1]]


def source(files: list[Path], **given: Any) -> ParquetKeys:
    return ParquetKeys(files, label="clicked", dense=["price", "age"], weight="importance", **given)


@pytest.mark.parametrize("batch_size", [1, 64, 399, 10_000])
def test_every_example_comes_once_and_in_order(
    files: list[Path], table: pa.Table, batch_size: int
) -> None:
    batches = list(source(files).iter_batches(batch_size))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    whole = Batch.concat(batches)
    whole.validate()
    assert whole.slots == ("user", "item", "city")
    for s, name in enumerate(whole.slots):
        np.testing.assert_array_equal(whole.keys[s::3], table[name].to_numpy())
    np.testing.assert_array_equal(whole.labels[:, 0], table["clicked"].to_numpy())
    np.testing.assert_array_equal(whole.dense[:, 0], table["price"].to_numpy())
    np.testing.assert_array_equal(whole.dense[:, 1], table["age"].to_numpy())
    np.testing.assert_array_equal(whole.weights, table["importance"].to_numpy().astype(np.float32))


@pytest.mark.parametrize("num_workers", [1, 2, 3, 7])
def test_workers_split_the_order_into_equal_ranges(
    files: list[Path], table: pa.Table, num_workers: int
) -> None:
    parquet = pickle.loads(pickle.dumps(source(files, slots=["city"])))
    assert isinstance(parquet, BatchSource)
    assert parquet.num_examples == COUNT
    parts = [
        Batch.concat(list(parquet.iter_batches(50, worker=worker, num_workers=num_workers)))
        for worker in range(num_workers)
    ]
    assert {len(part) for part in parts} == {COUNT // num_workers}
    keys = np.concatenate([part.keys for part in parts])
    np.testing.assert_array_equal(keys, table["city"].to_numpy()[: len(keys)])


def test_one_file_and_weights_of_one(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "all.parquet")
    (batch,) = ParquetKeys(tmp_path / "all.parquet", label="price").iter_batches(COUNT)
    assert (batch.weights == 1).all()
    assert batch.dense.shape == (COUNT, 0)


def test_what_does_not_fit_is_named(table: pa.Table, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one file"):
        ParquetKeys([])
    with pytest.raises(DataError, match=r"there is no file .*nowhere"):
        ParquetKeys(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no column 'label'"):
        ParquetKeys(files)
    with pytest.raises(DataError, match=r"'age' of .* holds int64, not keys.*hash_values\('age'"):
        ParquetKeys(files, label="clicked", slots=["age"])
    pq.write_table(table.append_column("name", pa.array(["x"] * COUNT)), tmp_path / "text")
    with pytest.raises(DataError, match="'name' of .*text holds string, not numbers"):
        ParquetKeys(tmp_path / "text", label="clicked", dense=["price", "name"])
    (tmp_path / "broken").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match="no whole Parquet file"):
        ParquetKeys(tmp_path / "broken")
    with pytest.raises(ConfigError, match="leave out the seed"):
        source(files).iter_batches(10, seed=1)
    with pytest.raises(ConfigError, match="worker = 2, num_workers = 2"):
        source(files).iter_batches(10, worker=2, num_workers=2)
    holes = pa.array([1, None, 3], pa.uint64())
    pq.write_table(pa.table({"label": [0, 1, 0], "item": holes}), tmp_path / "holes")
    with pytest.raises(DataError, match="'item' of .* has 1 missing values among 3"):
        list(ParquetKeys(tmp_path / "holes").iter_batches(10))
