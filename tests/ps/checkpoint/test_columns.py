"""Rows as columns: every bit comes back, and other tools see the types that the docs name."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps import FTRL, SGD, Adagrad, TableConfig
from weiml.ps.checkpoint.columns import RowColumns

CONFIGS = (
    TableConfig("a", optimizer=FTRL()),
    TableConfig("b", dim=3, optimizer=Adagrad(), statistics=("clicks", "last_seen")),
    TableConfig("c", dim=5, optimizer=Adagrad(), weights="bfloat16", statistics=("count",)),
    TableConfig("d", optimizer=SGD(), statistics=("shows", "clicks", "count", "last_seen")),
)


@given(st.sampled_from(CONFIGS), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_every_bit_comes_back(config: TableConfig, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**64, n, dtype=np.uint64)
    payload = rng.integers(0, 2**32, (n, config.payload_words), dtype=np.uint32)
    columns = RowColumns(config)
    file = io.BytesIO()
    with pa.ipc.new_file(file, columns.schema) as writer:
        writer.write_batch(columns.batch(keys, payload))
    reader = pa.ipc.open_file(file.getvalue())
    again = columns.rows(reader.get_batch(0))
    assert np.array_equal(again[0], keys)
    assert np.array_equal(again[1], payload)
    assert again[1].dtype == np.uint32


def test_the_columns_are_named_and_typed_as_documented() -> None:
    types = {field.name: field.type for field in RowColumns(CONFIGS[3]).schema}
    assert list(types) == ["key", "state", "count", "last_seen", "shows", "clicks"]
    assert types["key"] == pa.uint64()
    assert types["count"] == types["last_seen"] == pa.uint32()
    assert types["shows"] == types["clicks"] == pa.float32()
    state = RowColumns(CONFIGS[1]).schema.field("state").type
    assert (state.value_type, state.list_size) == (pa.float32(), 6)
    packed = RowColumns(CONFIGS[2]).schema.field("state").type
    assert (packed.value_type, packed.list_size) == (pa.uint32(), 8)


@pytest.mark.parametrize("config", CONFIGS[1::2])
def test_a_statistic_lies_in_the_column_of_its_name(config: TableConfig) -> None:
    payload = np.zeros((2, config.payload_words), np.uint32)
    offset = config.statistic_offset("clicks")
    assert offset is not None
    payload[:, offset] = np.array([1.5, 2.5], np.float32).view(np.uint32)
    batch = RowColumns(config).batch(np.arange(2, dtype=np.uint64), payload)
    assert batch.column("clicks").to_pylist() == [1.5, 2.5]


def test_rows_without_statistics_are_views_of_the_file() -> None:
    payload = np.arange(20, dtype=np.uint32).reshape(10, 2)
    columns = RowColumns(CONFIGS[0])
    _, again = columns.rows(columns.batch(np.arange(10, dtype=np.uint64), payload))
    assert np.shares_memory(again, payload)
