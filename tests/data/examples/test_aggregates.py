from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.data import Examples, Rate
from weiml.errors import ConfigError, DataError

ROWS = st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(-5, 5)), max_size=20)


def pieces(rows: list[Any], cuts: int) -> Examples:
    table = pa.table(
        {
            "k": pa.array([k for k, _ in rows], pa.int64()),
            "x": pa.array([x for _, x in rows], pa.int64()),
        }
    )
    size = max(1, -(-len(rows) // cuts))
    return Examples.of([table.slice(at, size) for at in range(0, max(len(rows), 1), size)])


@settings(max_examples=40)
@given(rows=ROWS, cuts=st.integers(1, 4), partitions=st.sampled_from([1, 3]))
def test_aggregates_equal_their_definition_however_the_rows_are_cut(
    rows: list[Any], cuts: int, partitions: int
) -> None:
    grouped = (
        pieces(rows, cuts)
        .using(partitions=partitions)
        .group_aggregate("k", n="count", known=("x", "count"), total=("x", "sum"), top=("x", "max"))
        .to_table()
    )
    whole = {"mean": ("x", "mean"), "kinds": ("x", "count_distinct")}
    means = pieces(rows, cuts).group_aggregate("k", **whole)
    by_key = {row["k"]: row for row in grouped.to_pylist()}
    assert set(by_key) == {k for k, _ in rows}
    assert grouped.num_rows == len(by_key)
    for row in means.to_table().to_pylist():
        values = [x for k, x in rows if k == row["k"] and x is not None]
        asked = by_key[row["k"]]
        assert asked["n"] == sum(k == row["k"] for k, _ in rows)
        assert asked["known"] == len(values)
        assert asked["total"] == (sum(values) if values else None)
        assert asked["top"] == (max(values) if values else None)
        assert row["kinds"] == len(set(values))
        assert (
            row["mean"] is None
            if not values
            else math.isclose(row["mean"], sum(values) / len(values))
        )


def test_counters_and_rates_use_their_prior() -> None:
    log = pa.table({"ad": [1, 1, 1, 2], "t": [0, 10, 4000, 10], "click": [True, False, True, True]})
    rates = {"ctr": Rate(of="click", prior=0.5, strength=2.0)}
    counted = Examples.of(log).with_counters("ad", "t", ["1h", None], sums="click", rates=rates)
    table = counted.to_table()
    assert table["ad_count_1h"].to_pylist() == [0, 1, 0, 0]
    assert table["ad_count_all"].to_pylist() == [0, 1, 2, 0]
    assert table["ad_click_all"].to_pylist() == [0.0, 1.0, 1.0, 0.0]
    assert table["ad_ctr_all"].to_pylist() == pytest.approx([0.5, 2 / 3, 0.5, 0.5])
    assert table.schema.equals(counted.schema)
    later = Examples.of(log).with_counters("ad", "t", None, delay="1h").to_table()
    assert later["ad_count_all"].to_pylist() == [0, 0, 2, 0]


def test_settings_that_make_no_sense_are_told() -> None:
    with pytest.raises(ConfigError, match="strength must be above 0"):
        Rate(of="x", prior=0.1, strength=0)
    with pytest.raises(ConfigError, match="name of its key 'k'"):
        pieces([], 1).group_aggregate("k", k="count")
    with pytest.raises(ConfigError, match="longer than 0"):
        pieces([], 1).with_counters("k", "x", 0)


def test_large_and_infinite_numbers_spoil_no_later_window() -> None:
    log = pa.table({"k": [1] * 5, "t": [0, 1, 20, 21, 22], "x": [1e17, math.inf, 1.0, 1.0, 1.0]})
    counted = Examples.of(log).with_counters("k", "t", [5, None], sums="x").to_table()
    assert counted["k_x_5s"].to_pylist() == [0.0, np.float32(1e17), 0.0, 1.0, 2.0]
    assert counted["k_x_all"].to_pylist()[2] == np.float32(1e17)


def test_dictionary_keys_of_several_pieces_are_one_key() -> None:
    tables = [
        pa.table({"k": pa.array(names).dictionary_encode(), "x": [1, 2]})
        for names in (["a", "b"], ["b", "c"])
    ]
    grouped = Examples.of(tables).group_aggregate("k", x=("x", "sum")).to_table()
    assert dict(zip(grouped["k"].to_pylist(), grouped["x"].to_pylist(), strict=True)) == {
        "a": 1,
        "b": 3,
        "c": 2,
    }


def test_sums_that_do_not_fit_are_told() -> None:
    for tables in ([[2**62, 2**62]], [[2**62], [2**62]]):
        base = Examples.of([pa.table({"k": [1] * len(x), "x": x}) for x in tables])
        with pytest.raises(DataError, match="more than 64 bits hold"):
            base.group_aggregate("k", x=("x", "sum")).to_table()
    halves = Examples.of(pa.table({"k": [1, 1], "x": [2**61, -(2**61)]}))
    assert halves.group_aggregate("k", x=("x", "sum")).to_table()["x"].to_pylist() == [0]
