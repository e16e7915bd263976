"""Parquet of a chain: the rows as they finally are, readable by anything."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.ps.checkpoint.state import DEEP, DENSE, TABLES, WIDE, State, random_rows, trained
from weiml.errors import ParameterServerError
from weiml.ps import FTRL, Adagrad, TableConfig
from weiml.ps.checkpoint import (
    Chain,
    CheckpointStore,
    CheckpointWriter,
    ShardPart,
    TablePart,
    export_parquet,
    open_checkpoint,
    write_shard,
)
from weiml.ps.tables.layout import RowLayout, row_addresses


@pytest.fixture
def state(rng: np.random.Generator) -> State:
    return trained(rng)


@pytest.fixture
def chain(tmp_path: Path, state: State, rng: np.random.Generator) -> Chain:
    """Return a full one with two deltas on top, of which the last is `state`."""
    store, last = CheckpointStore(tmp_path / "store"), None
    for time_s in range(3):
        with store.writer(num_buckets=64, time_s=time_s, parent=last) as writer:
            last = writer.commit(state.write(writer.spec)).id
        if time_s < 2:
            state.put("wide", random_rows(WIDE, [0, 4 + time_s, 9], rng))
            state.put("dense", random_rows(DENSE, [3], rng))
            state.delete("wide", [4])
            state.delete("deep", list(state.tables["deep"])[:20])
    return store.open(str(last))


def words(table: object, column: str) -> np.ndarray:
    flat = table[column].combine_chunks().flatten().to_numpy()  # type: ignore[index]
    return np.asarray(flat)


@pytest.mark.parametrize("rows_per_file", [1 << 20, 50, 1])
def test_the_rows_are_those_of_the_last_one(
    chain: Chain, state: State, tmp_path: Path, rows_per_file: int
) -> None:
    export_parquet(chain, tmp_path / "out", columns="state", rows_per_file=rows_per_file)
    for config in TABLES:
        expected = state.tables[config.name]
        table = pq.read_table(tmp_path / "out" / config.name)
        keys = table["key"].to_pylist()
        assert len(keys) == len(set(keys))
        states = words(table, "state").view(np.uint32).reshape(len(keys), config.state_words)
        assert dict(zip(keys, map(tuple, states.tolist()), strict=True)) == {
            key: row[: config.state_words] for key, row in expected.items()
        }
    wide = pq.read_table(tmp_path / "out" / "wide")
    assert wide.column_names == ["key", "state", "count", "clicks"]
    counts = dict(zip(wide["key"].to_pylist(), wide["count"].to_pylist(), strict=True))
    assert counts == {key: row[2] for key, row in state.tables["wide"].items()}
    files = len(list((tmp_path / "out" / "wide").iterdir()))
    assert files == {1 << 20: 1, 50: 8, 1: 64}[rows_per_file]


def test_each_file_is_sorted_by_key(chain: Chain, tmp_path: Path) -> None:
    export_parquet(chain, tmp_path / "out", rows_per_file=50)
    for file in (tmp_path / "out" / "wide").iterdir():
        keys = pq.read_table(file)["key"].to_numpy()
        assert (np.diff(keys.astype(np.float64)) > 0).all()


@pytest.mark.parametrize(
    "config",
    [
        TableConfig("t", dim=3, optimizer=Adagrad()),
        TableConfig("t", dim=3, optimizer=Adagrad(), weights="bfloat16"),
        TableConfig("t", optimizer=FTRL(l1=0.5, l2=1.0), statistics=("count",)),
    ],
)
def test_weights_are_those_that_are_served(
    config: TableConfig, tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = np.arange(50, dtype=np.uint64)
    payload = rng.uniform(0.5, 2, (50, config.payload_words)).astype(np.float32).view(np.uint32)
    part = ShardPart(
        index=0,
        sequence=1,
        buckets=np.arange(64),
        tables=[TablePart(config=config, chunks=[(keys, payload)])],
    )
    with CheckpointWriter(tmp_path / "x", num_buckets=64, time_s=0) as writer:
        writer.commit([write_shard(writer.spec, part)])
    export_parquet(open_checkpoint(tmp_path / "x"), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "t")
    assert table["key"].to_pylist() == keys.tolist()
    served = RowLayout(config).weights(row_addresses(payload))
    assert np.array_equal(words(table, "weights").reshape(50, config.dim), served)
    assert np.abs(served).max() > 0.01


def test_it_goes_to_object_stores(chain: Chain, bucket: str) -> None:
    export_parquet(chain, f"{bucket}/exported")
    with fsspec.open(f"{bucket}/exported/deep/part-00000.parquet") as file:
        assert pq.read_table(file).num_rows == 60
    with pytest.raises(ParameterServerError, match="exported exists already"):
        export_parquet(chain, f"{bucket}/exported")


def test_an_export_that_fails_leaves_nothing(chain: Chain, tmp_path: Path) -> None:
    entry = chain.newest.files[0]
    (Path(chain.place) / entry.path).write_bytes(b"")
    with pytest.raises(ParameterServerError, match=f"{entry.path} is damaged"):
        export_parquet(chain, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_empty_table_has_an_empty_file_with_its_columns(chain: Chain, tmp_path: Path) -> None:
    export_parquet(chain, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "empty")
    assert (table.num_rows, table.column_names) == (0, ["key", "weights"])
    assert DEEP in chain.tables
