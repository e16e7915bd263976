"""Slots and numbers to a batch: against plain Python, and without any Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.features import Categorical, Continuous, FeatureEncoder, FeatureSpec, SparseBinary
from weiml.features.assemble import interleave
from weiml.features.columns import RawColumns, read_columns
from weiml.features.slots import SlotKeys

SPEC = FeatureSpec(
    features=(Categorical("city"), SparseBinary("tags"), Continuous("age", buckets=3)),
)


def slot_of(cells: list[list[int]], valued: bool) -> SlotKeys:
    keys = np.array([key for cell in cells for key in cell], np.uint64)
    lengths = np.array([len(cell) for cell in cells], np.int32)
    single = all(len(cell) == 1 for cell in cells)
    return SlotKeys(
        keys,
        None if single else lengths,
        keys.astype(np.float32) * np.float32(0.5) if valued else None,
    )


@given(st.integers(1, 60), st.lists(st.booleans(), max_size=4), st.data())
def test_interleave_puts_each_key_into_its_cell(
    B: int, valued: list[bool], draw: st.DataObject
) -> None:
    lengths = st.integers(0, 3) if draw.draw(st.booleans()) else st.just(1)
    count = iter(range(1, 10_000))
    cells = [[[next(count) for _ in range(draw.draw(lengths))] for _ in range(B)] for _ in valued]
    slots = [slot_of(slot, v) for slot, v in zip(cells, valued, strict=True)]
    keys, offsets, values = interleave(slots, B)
    S = len(slots)
    assert (values is None) == (not any(valued))
    for b in range(B):
        for s in range(S):
            cell = slice(offsets[b * S + s], offsets[b * S + s + 1])
            assert keys[cell].tolist() == cells[s][b]
            if values is not None:
                scale = [0.5 * key if valued[s] else 1.0 for key in cells[s][b]]
                assert values[cell].tolist() == scale


def test_more_examples_than_a_block() -> None:
    B = 5000
    slots = [SlotKeys(np.arange(s * B, (s + 1) * B, dtype=np.uint64)) for s in range(3)]
    keys, offsets, _ = interleave(slots, B)
    np.testing.assert_array_equal(keys.reshape(B, 3), np.arange(3 * B).reshape(3, B).T)
    np.testing.assert_array_equal(offsets, np.arange(3 * B + 1))


def columns(**changes: Any) -> RawColumns:
    numbers = {"age": np.array([1.0, np.nan])}
    slots = {
        "city": SlotKeys(np.array([5, 6], np.uint64)),
        "tags": SlotKeys(np.array([7, 8, 9], np.uint64), np.array([3, 0], np.int32)),
    }
    read: dict[str, Any] = {"num_examples": 2, "slots": slots, "numbers": numbers}
    return RawColumns(**(read | changes))


def fitted() -> FeatureEncoder:
    table = pa.table({"city": ["a", "b"], "tags": [["x"], []], "age": [1.0, 3.0]})
    return FeatureEncoder(SPEC).fit(table)


def test_keys_hashed_elsewhere_make_a_batch() -> None:
    batch = fitted().assemble(columns())
    batch.validate()
    assert batch.keys[:4].tolist() == [5, 7, 8, 9]
    assert batch.offsets.tolist() == [0, 1, 4, 5, 6, 6, 7]
    assert batch.dense.tolist() == [[-1.0], [0.0]]
    assert batch.labels.tolist() == [[0.0], [0.0]]


def test_what_is_read_by_columns_is_what_encode_makes() -> None:
    table = pa.table(
        {"city": ["a", None], "tags": [["x", "y"], None], "age": [2.0, None], "label": [1, 0]}
    )
    encoder = fitted()
    read = read_columns(SPEC, table)
    assert read.numbers["age"].tolist()[0] == 2.0
    assert np.isnan(read.numbers["age"][1])
    a, b = encoder.assemble(read), encoder.encode(table)
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": {"ag": np.zeros(2)}}, "nothing was read of feature 'age'; did you mean 'ag'"),
        ({"numbers": {"age": np.zeros(3)}}, r"'age' needs numbers \(2,\), got \(3,\)"),
        ({"slots": {}}, "nothing was read of feature 'city'"),
        ({"num_examples": 1, "numbers": {"age": np.zeros(1)}}, "'city' has 2 keys"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fitted().assemble(columns(**changes))


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (SlotKeys(np.zeros(2, np.int64)), "keys must be uint64"),
        (SlotKeys(np.zeros(2, np.uint64), np.array([1, 1])), "lengths must be int32"),
        (SlotKeys(np.zeros(2, np.uint64), np.array([2, 1], np.int32)), "has 2 keys"),
        (SlotKeys(np.zeros(2, np.uint64), np.array([3, -1], np.int32)), "has 2 keys"),
        (SlotKeys(np.zeros(2, np.uint64), None, np.zeros(2)), "values must be float32"),
    ],
)
def test_lengths_that_would_lead_astray_are_refused(slot: SlotKeys, message: str) -> None:
    with pytest.raises(DataError, match=f"slot 'city'.*{message}"):
        fitted().assemble(columns(slots=dict(columns().slots) | {"city": slot}))


def test_numbers_beyond_float32_are_missing() -> None:
    encoder = FeatureEncoder(FeatureSpec(features=(Continuous("x"), Continuous("y"))))
    encoder.fit(pa.table({"x": [1.0, 2.0, 3.0], "y": [0.0, 0.0, 1.0]}))
    rare = pa.table({"x": [1e300, -1e300, np.inf, None, 2.0], "y": [0.0] * 5})
    batch = encoder.encode(rare, labels=False)
    assert batch.dense[:, 0].tolist() == [0.0] * 5
    assert np.isfinite(batch.dense).all()
    assert (batch.dense[:, 1] != 0).all()
