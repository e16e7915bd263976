"""Floats of Arrow numbers, and whole seconds of timestamps, against numpy and Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.features import Categorical, Continuous, FeatureEncoder, FeatureSpec, SparseContinuous
from weiml.features.numbers import floats_of, seconds_of

BIG = 2**53 + 1


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.int8(), pa.float32(), pa.bool_()])
def test_floats_are_numpys(kind: pa.DataType) -> None:
    values = pa.array([0, 1, 1, None]).cast(kind).slice(1)
    np.testing.assert_array_equal(floats_of(values), [1.0, 1.0, np.nan])
    np.testing.assert_array_equal(floats_of(values.dictionary_encode()), [1.0, 1.0, np.nan])


def test_integers_that_floats_cannot_tell_apart_are_rounded() -> None:
    assert floats_of(pa.array([BIG])).tolist() == [2.0**53]
    assert floats_of(pa.array([2**24 + 1]), np.float32).tolist() == [2.0**24]
    assert floats_of(pa.array([2**64 - 1], pa.uint64())).tolist() == [2.0**64]


def encode(table: pa.Table, *features: Any) -> Any:
    spec = FeatureSpec(features=features)
    labels = "label" in table.column_names
    return FeatureEncoder(spec).fit(table).encode(table, labels=labels)


def test_big_integers_are_features_values_and_labels() -> None:
    assert np.isfinite(encode(pa.table({"x": [1, BIG]}), Continuous("x")).dense).all()
    lists = pa.table({"x": [["a"]], "v": [[BIG]]})
    assert encode(lists, SparseContinuous("x", values="v")).values.tolist() == [2.0**53]
    assert encode(pa.table({"c": [1], "label": [2**24 + 1]}), Categorical("c")).labels == 2.0**24


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), max_size=5),
    st.sampled_from([("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]),
    st.sampled_from([None, "UTC", "America/New_York"]),
)
def test_seconds_are_rounded_down(times: list[int | None], unit: Any, zone: str | None) -> None:
    name, per = unit
    array = pa.array([0, *times], pa.timestamp(name, zone)).slice(1)
    expected = [None if t is None else t // per for t in times]
    assert seconds_of(array).to_pylist() == expected


def test_times_before_1970_are_rounded_down_by_the_encoder() -> None:
    times = pa.array([-500, -1500, 1500], pa.timestamp("ms", "Asia/Shanghai"))
    batch = encode(pa.table({"c": [1, 2, 3], "timestamp": times}), Categorical("c"))
    assert batch.times.tolist() == [-1, -2, 1]
