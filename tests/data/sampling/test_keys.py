from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kstest

from weiml.data.sampling import row_keys, share_of
from weiml.errors import DataError


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, None],
        ["a", "", None],
        [1.5, float("nan"), None],
        [True, False, None],
        [[1, 2], [2, 1], [], [None], None],
        [["ab"], ["a", "b"], [""]],
        [{"a": 1, "b": "x"}, {"a": None, "b": "x"}, None],
        [[{"k": 1}], [{"k": 2}]],
    ],
)
def test_equal_rows_have_equal_keys_and_others_do_not(values: list[Any]) -> None:
    table = pa.table({"x": pa.array(values + values), "y": [0] * (2 * len(values))})
    keys = row_keys(table, ["x", "y"])
    assert (keys[: len(values)] == keys[len(values) :]).all()
    assert len(set(keys.tolist())) == len(values)
    np.testing.assert_array_equal(row_keys(table.slice(1), ["x", "y"]), keys[1:])


def test_times_dictionaries_and_rounding() -> None:
    times = pa.table({"x": pa.array([1, 2], pa.timestamp("s"))})
    assert len(set(row_keys(times, ["x"]).tolist())) == 2
    text = pa.table({"x": ["a", "b"], "d": pa.array(["a", "b"]).dictionary_encode()})
    plain = text.select(["x"]).rename_columns(["d"])
    np.testing.assert_array_equal(row_keys(text, ["d"]), row_keys(plain, ["d"]))
    close = pa.table({"x": [0.1234, 0.1229, 0.13, -0.0001, 0.0]})
    rounded = row_keys(close, ["x"], 2)
    assert rounded[0] == rounded[1] != rounded[2]
    assert rounded[3] == rounded[4]
    assert len(set(row_keys(close, ["x"]).tolist())) == 5
    with pytest.raises(DataError, match="column 'x'"):
        row_keys(pa.table({"x": [b"y"]}), ["x"])


def test_shares_are_even_and_seeds_independent() -> None:
    keys = row_keys(pa.table({"id": list(range(20_000))}), ["id"])
    one, other = share_of(keys, 1), share_of(keys, 2)
    assert one.min() >= 0
    assert one.max() < 1
    assert kstest(one, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def key_of(value: Any, kind: pa.DataType, decimals: int | None = None) -> int:
    return int(row_keys(pa.table({"x": pa.array([value], kind)}), ["x"], decimals)[0])


def test_equal_numbers_and_times_have_one_key_in_any_type() -> None:
    for number in (5, 0, -3, 2**53):
        kinds = (pa.int64(), pa.float64())
        assert key_of(number, pa.int64()) == key_of(str(number), pa.string())
        assert len({key_of(number, kind) for kind in kinds}) == 1
    assert key_of(-0.0, pa.float32()) == key_of(0, pa.int8())
    assert key_of(None, pa.float64()) == key_of(None, pa.int64()) != key_of(np.nan, pa.float64())
    assert len({key_of(x, pa.float64()) for x in (5.5, 5.25, 5, np.inf, -np.inf, np.nan)}) == 6
    for make in (pa.timestamp, pa.duration):
        same = {key_of(5 * 10**i, make(u)) for i, u in ((0, "s"), (3, "ms"), (6, "us"), (9, "ns"))}
        assert len(same) == 1
        assert key_of(5_000_001, make("us")) == key_of(5_000_001_000, make("ns")) not in same
        assert key_of(-1, make("ms")) == key_of(-1_000_000, make("ns"))
        assert key_of(None, make("ms")) == key_of(None, make("ns"))
    assert key_of(3, pa.time32("s")) == key_of(3_000_000, pa.time64("us"))
    assert key_of(3, pa.date32()) == key_of(3 * 86_400_000, pa.date64())
    pair = pa.list_(pa.int64(), 2)
    assert key_of([1, 2], pair) == key_of([1, 2], pa.list_(pa.float64())) != key_of(None, pair)


def test_rounding_leaves_numbers_beyond_all_places_apart() -> None:
    assert key_of(1e305, pa.float64(), 6) != key_of(2e305, pa.float64(), 6)
    assert key_of(1e305, pa.float64(), 6) == key_of(1e305, pa.float64())
    assert key_of(0.30000000000000004, pa.float64(), 6) == key_of(0.3, pa.float64(), 6)
