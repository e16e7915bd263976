"""Batches as trees see them: codes, counts, keys as columns, what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.trees import TreeColumns
from weiml.models.trees.counts import KeyCounts, count_slots

NAN = float("nan")


def batch_of(cells: Sequence[Sequence[Sequence[int]]], dense: Sequence[Sequence[float]]) -> Batch:
    """Return examples of slots a and b, given the keys of each."""
    lengths = [len(cell) for example in cells for cell in example]
    keys = [key for example in cells for cell in example for key in cell]
    n = len(cells)
    return Batch(
        labels=np.zeros((n, 1), np.float32),
        weights=np.ones(n, np.float32),
        dense=np.array(dense, np.float32).reshape(n, 1),
        keys=np.array(keys, np.uint64),
        offsets=np.cumsum([0, *lengths]).astype(np.int32),
        groups=np.zeros(n, np.uint64),
        items=np.zeros(n, np.uint64),
        times=np.zeros(n, np.int64),
        slots=("a", "b"),
        dense_names=("x",),
    )


TRAIN = batch_of([[[5], [1, 2]], [[5], [2]], [[9], []], [[3], [2, 1]]], [[1], [2], [3], [4]])


def fitted(batch: Batch, categories: int = 2, hot: int = 1, out: Sequence[str] = ()) -> TreeColumns:
    counts = [KeyCounts() for _ in batch.slots]
    count_slots(batch, counts)
    return TreeColumns.fit(
        batch.slots,
        batch.dense_names,
        counts,
        max_categories=categories,
        max_multi_hot=hot,
        without=out,
    )


def test_a_known_answer() -> None:
    columns = fitted(TRAIN)
    # Of slot a, 5 comes twice and 3 before 9; of slot b, 2 is the most frequent.
    assert columns.names == ("x", "a", "b (count)", "b 0000000000000002")
    assert columns.categorical == (1,)
    expected = [[1, 0, 2, 1], [2, 0, 1, 1], [3, 2, 0, 0], [4, 1, 2, 1]]
    np.testing.assert_array_equal(columns.matrix(TRAIN), expected)


def test_unseen_keys_are_others_and_absent_ones_and_what_is_not_finite_is_missing() -> None:
    seen = batch_of([[[777], [8, 2, 2]], [[], []], [[3, 5], []]], [[NAN], [np.inf], [-np.inf]])
    expected = [[NAN, 2, 3, 2], [NAN, NAN, 0, 0], [NAN, 1, 0, 0]]
    np.testing.assert_array_equal(fitted(TRAIN).matrix(seen), expected)


def test_values_count_and_make_a_slot_one_of_several_columns() -> None:
    valued = replace(TRAIN, values=np.arange(1, 9, dtype=np.float32) / 2)
    columns = fitted(valued, hot=3)
    assert not columns.categorical
    row = columns.matrix(valued)[0]
    assert dict(zip(columns.names, row.tolist(), strict=True)) == {
        "x": 1,
        "a (count)": 1,
        "a 0000000000000005": 0.5,
        "a 0000000000000003": 0,
        "a 0000000000000009": 0,
        "b (count)": 2,
        "b 0000000000000002": 1.5,
        "b 0000000000000001": 1,
    }


def test_slots_and_dense_columns_may_be_left_out() -> None:
    columns = fitted(TRAIN, out=["x", "b"])
    assert columns.names == ("a",)
    np.testing.assert_array_equal(columns.matrix(TRAIN), [[0], [0], [2], [1]])
    with pytest.raises(ConfigError, match="names 'bb'.*mean 'b'"):
        fitted(TRAIN, out=["bb"])


def test_json_keeps_all(examples_of: Callable[..., Batch]) -> None:
    batch = examples_of(200)
    columns = fitted(batch, 20, 4, ["y"])
    again = TreeColumns.from_mapping(json.loads(json.dumps(columns.to_mapping())))
    assert again.names == columns.names
    np.testing.assert_array_equal(again.matrix(batch), columns.matrix(batch))


def test_other_columns_are_refused(examples_of: Callable[..., Batch]) -> None:
    with pytest.raises(DataError, match="grown on slots"):
        fitted(TRAIN).matrix(examples_of(3))
