"""Batches: slicing, gathering, joining and the Arrow form, against lists of lists."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.features import Batch

NUM_SLOTS = 3
Cells = list[list[list[int]]]
cells_of = st.lists(
    st.lists(
        st.lists(st.integers(1, 2**64 - 1), max_size=3), min_size=NUM_SLOTS, max_size=NUM_SLOTS
    ),
    max_size=12,
)


def make(cells: Cells, valued: bool = False, num_dense: int = 2) -> Batch:
    B = len(cells)
    flat = [cell for example in cells for cell in example]
    lengths = [len(cell) for cell in flat]
    keys = np.array([key for cell in flat for key in cell], np.uint64)
    numbers = np.arange(B, dtype=np.float32)
    return Batch(
        labels=(numbers % 2).reshape(B, 1),
        weights=numbers + 1,
        dense=np.repeat(numbers, num_dense).reshape(B, num_dense),
        keys=keys,
        offsets=np.cumsum([0, *lengths]).astype(np.int32),
        values=np.arange(keys.size, dtype=np.float32) if valued else None,
        groups=np.arange(B, dtype=np.uint64),
        items=np.arange(B, dtype=np.uint64),
        times=np.arange(B, dtype=np.int64),
        slots=("a", "b", "c"),
        dense_names=tuple("xyz"[:num_dense]),
    )


def cells(batch: Batch) -> Cells:
    S = len(batch.slots)
    flat = [
        batch.keys[batch.offsets[i] : batch.offsets[i + 1]].tolist() for i in range(len(batch) * S)
    ]
    return [flat[i : i + S] for i in range(0, len(flat), S)]


@given(cells_of, st.integers(0, 12), st.integers(0, 12))
def test_slice(data: Cells, start: int, length: int) -> None:
    start = min(start, len(data))
    part = make(data, valued=True).slice(start, start + length)
    part.validate()
    assert cells(part) == data[start : start + length]
    assert part.times.tolist() == list(range(len(data)))[start : start + length]


@given(cells_of.filter(bool), st.data())
def test_take(data: Cells, draw: st.DataObject) -> None:
    indices = draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=10))
    part = make(data, valued=True).take(np.array(indices, np.int64))
    part.validate()
    assert cells(part) == [data[i] for i in indices]
    assert part.weights.tolist() == [i + 1 for i in indices]


@given(st.lists(cells_of, min_size=1, max_size=3))
def test_concat(parts: list[Cells]) -> None:
    joined = Batch.concat([make(part) for part in parts])
    joined.validate()
    assert cells(joined) == [example for part in parts for example in part]


@given(cells_of, st.booleans(), st.integers(0, 3))
def test_arrow_round_trip(data: Cells, valued: bool, num_dense: int) -> None:
    batch = make(data, valued, num_dense)
    back = Batch.from_arrow(batch.to_arrow())
    assert cells(back) == data
    assert back.slots == batch.slots
    for field in dataclasses.fields(Batch):
        array = getattr(batch, field.name)
        if isinstance(array, np.ndarray):
            np.testing.assert_array_equal(getattr(back, field.name), array)


def test_parquet_round_trip_of_a_slice(tmp_path: object) -> None:
    data = [[[i + 1], [], [i + 2, i + 3]] for i in range(50)]
    path = f"{tmp_path}/batch.parquet"
    pq.write_table(make(data).to_arrow(), path, row_group_size=7)
    assert cells(Batch.from_arrow(pq.read_table(path).slice(5, 20))) == data[5:25]


def test_several_labels_and_no_slots() -> None:
    batch = dataclasses.replace(
        make([[[1], [2], [3]]] * 4), labels=np.arange(8, dtype=np.float32).reshape(4, 2)
    )
    back = Batch.from_arrow(batch.to_arrow())
    assert back.labels.tolist() == batch.labels.tolist()
    bare = dataclasses.replace(
        batch, slots=(), keys=np.empty(0, np.uint64), offsets=np.zeros(1, np.int32)
    )
    assert Batch.from_arrow(bare.to_arrow()).num_examples == 4


def test_values_are_filled_with_ones_where_some_batches_have_none() -> None:
    joined = Batch.concat([make([[[5], [], []]]), make([[[6], [7], []]], valued=True)])
    assert joined.values is not None
    assert joined.values.tolist() == [1.0, 0.0, 1.0]


def test_errors_name_the_array() -> None:
    batch = make([[[1], [2], [3]]])
    with pytest.raises(DataError, match="'dense' must be float32"):
        dataclasses.replace(batch, dense=np.zeros((1, 2))).validate()
    with pytest.raises(DataError, match="offsets must rise"):
        dataclasses.replace(batch, offsets=np.array([0, 2, 1, 3], np.int32)).validate()
    with pytest.raises(DataError, match="no 'weiml.batch' metadata"):
        Batch.from_arrow(pa.table({"x": [1]}))
    with pytest.raises(DataError, match="different columns"):
        Batch.concat([batch, make([[[1], [2], [3]]], num_dense=1)])
    with pytest.raises(DataError, match="empty list"):
        Batch.concat([])
    table = batch.to_arrow()
    with pytest.raises(DataError, match="column 'keys'"):
        Batch.from_arrow(table.drop_columns(["keys"]))


@pytest.mark.parametrize("indices", [[0, 2], [-1], [True, False], [0.0]])
def test_indices_that_name_no_example_are_refused(indices: list[Any]) -> None:
    batch = make([[[1], [2], [3]]] * 2)
    with pytest.raises(DataError, match=r"numbered 0 to 1, got|taken by integers, got"):
        batch.take(np.array(indices))
    assert batch.take(np.array([])).num_examples == 0


def test_more_keys_than_offsets_can_count_are_refused() -> None:
    batch = make([[[1], [2], [3]]])
    huge = dataclasses.replace(batch, keys=np.broadcast_to(np.uint64(1), 2**30))
    with pytest.raises(DataError, match="fewer than 2"):
        Batch.concat([huge, huge])
