from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.data import Examples, col
from weiml.data.examples.joins import How
from weiml.errors import DataError

ROWS = st.lists(
    st.tuples(st.none() | st.integers(0, 4), st.sampled_from(["a", "b"])), min_size=0, max_size=8
)


def table(rows: list[tuple[int | None, str]], value: str) -> pa.Table:
    return pa.table(
        {
            "k": pa.array([k for k, _ in rows], pa.int64()),
            "l": pa.array([part for _, part in rows], pa.string()),
            value: pa.array(range(len(rows)), pa.int64()),
        }
    )


def expected(left: list[Any], right: list[Any], how: How) -> list[tuple[Any, ...]]:
    pairs = [
        (i, j)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if a == b and a[0] is not None
    ]
    matched, met = {i for i, _ in pairs}, {j for _, j in pairs}
    rows: list[tuple[Any, ...]] = [(*left[i], i, j) for i, j in pairs]
    alone = [(*left[i], i, None) for i in range(len(left)) if i not in matched]
    rest = [(*right[j], None, j) for j in range(len(right)) if j not in met]
    if how == "semi":
        return [(*left[i], i) for i in sorted(matched)]
    if how == "anti":
        return [row[:-1] for row in alone]
    rows += alone if how in ("left", "outer") else []
    return rows + (rest if how in ("right", "outer") else [])


@settings(max_examples=30)
@given(left=ROWS, right=ROWS, partitions=st.sampled_from([1, 3]))
@pytest.mark.parametrize("how", ["inner", "left", "right", "outer", "semi", "anti"])
def test_joins_equal_their_definition_on_any_number_of_partitions(
    how: How, left: list[Any], right: list[Any], partitions: int
) -> None:
    ours = Examples.of(table(left, "x")).using(partitions=partitions)
    theirs = Examples.of(table(right, "y"))
    wanted = sorted(expected(left, right, how), key=str)
    for carry in (False, True) if how not in ("right", "outer") else (False,):
        joined = ours.join(theirs, ["k", "l"], how, carry=carry).to_table()
        rows = [tuple(row.values()) for row in joined.to_pylist()]
        assert sorted(rows, key=str) == wanted


def test_keys_whose_hashes_are_equal_but_not_they_do_not_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import weiml.data.examples.joins as joins

    monkeypatch.setattr(joins, "key_of", _all_equal)
    left, right = Examples.of(table([(1, "a"), (2, "a")], "x")), table([(2, "a")], "y")
    joined = left.join_smaller(Examples.of(right), ["k", "l"]).to_table()
    assert joined.to_pylist() == [{"k": 2, "l": "a", "x": 1, "y": 0}]


def _all_equal(rows: pa.Table, names: object) -> Any:
    return np.full(rows.num_rows, 7, np.uint64)


def test_nulls_inside_dictionaries_match_nothing() -> None:
    odd = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([None, "a"]))
    left = Examples.of(pa.table({"k": odd, "x": [0, 1]}))
    right = Examples.of(pa.table({"k": odd, "y": [5, 6]}))
    for carry in (True, False):
        assert left.join(right, "k", carry=carry).to_table()["y"].to_pylist() == [6]
    counted = left.with_columns(t=col("x")).with_counters("k", "t", None)
    assert counted.to_table()["k_count_all"].to_pylist() == [0, 0]


def test_outer_joins_widen_keys_and_admit_nulls() -> None:
    left = Examples.of(pa.table({"k": pa.array([1], pa.int32()), "x": [1]}))
    kept = pa.schema([pa.field("k", pa.int64()), pa.field("y", pa.int64(), nullable=False)])
    right = Examples.of(pa.table({"k": [2**40], "y": [7]}, schema=kept))
    joined = left.join(right, "k", "outer")
    assert joined.schema.field("k").type == pa.int64()
    assert joined.schema.field("y").nullable
    assert joined.to_table()["k"].to_pylist() == [1, 2**40]
    unsigned = Examples.of(pa.table({"k": pa.array([2**64 - 1], pa.uint64()), "y": [7]}))
    with pytest.raises(DataError, match="no type in common"):
        left.join(unsigned, "k", "outer")
    assert left.join(unsigned, "k", "left").to_table()["y"].to_pylist() == [None]
