from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.data.examples.keys import check_key, key_of, times_of
from weiml.errors import DataError


def test_keys_are_equal_whatever_carries_them_and_missing_ones_are_none() -> None:
    plain = pa.table({"a": pa.array([1, None, 3], pa.int64()), "b": ["x", "y", None]})
    other = pa.table(
        {
            "c": pa.array([1, 2, 3], pa.uint8()),
            "d": pa.array(["x", "y", "z"]).dictionary_encode(),
        }
    )
    ours, theirs = key_of(plain, ["a", "b"]), key_of(other, ["c", "d"])
    assert ours[0] == theirs[0] != 0
    assert ours[1:].tolist() == [0, 0]
    assert check_key(plain.schema, ["a", "b"]) == check_key(other.schema, ["c", "d"])
    assert key_of(plain, ["a"])[0] != key_of(plain, ["a", "b"])[0]


def test_floats_are_no_keys_and_missing_times_are_told() -> None:
    table = pa.table({"x": [1.0], "t": pa.array([None], pa.int64())})
    with pytest.raises(DataError, match="column 'x' of type double cannot be a key"):
        check_key(table.schema, ["x"])
    with pytest.raises(DataError, match="'t' has 1 missing"):
        times_of(table, "t")
