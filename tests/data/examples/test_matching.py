from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.examples.matching import (
    KeyIndex,
    SortedTimes,
    attribute_clicks,
    check_key,
    key_of,
    times_of,
    window_sums,
)
from weiml.errors import DataError

KEYS = st.lists(st.integers(0, 4), max_size=12)
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=14)


def split(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.array([key for key, _ in rows], np.uint64)
    return keys, np.array([time for _, time in rows], np.int64)


@given(left=KEYS, right=KEYS)
def test_pairs_are_all_equal_keys_in_order(left: list[int], right: list[int]) -> None:
    ours, theirs = KeyIndex.of(np.array(right, np.uint64)).match(np.array(left, np.uint64))
    expected = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b != 0]
    assert list(zip(ours.tolist(), theirs.tolist(), strict=True)) == expected


@given(rows=ROWS, past=ROWS, same=st.booleans(), within=st.none() | st.integers(0, 5))
def test_the_last_row_before_is_found(
    rows: list[tuple[int, int]], past: list[tuple[int, int]], same: bool, within: int | None
) -> None:
    found = SortedTimes.of(*split(past)).last_before(*split(rows), same_time=same, within=within)
    for (key, time), at in zip(rows, found.tolist(), strict=True):
        known = [
            (then, i)
            for i, (other, then) in enumerate(past)
            if other == key != 0
            and (then < time or (same and then == time))
            and (within is None or time - then <= within)
        ]
        assert at == (max(known)[1] if known else -1)


@given(rows=ROWS, window=st.none() | st.integers(1, 6), delay=st.integers(0, 3))
def test_windows_hold_what_is_strictly_before(
    rows: list[tuple[int, int]], window: int | None, delay: int
) -> None:
    keys, times = split(rows)
    values = np.arange(1.0, len(rows) + 1).reshape(-1, 1)
    counts, sums = window_sums(keys, times, values, window, delay)
    for i, (key, time) in enumerate(rows):
        seen = [
            j
            for j, (other, then) in enumerate(rows)
            if other == key != 0
            and then < time - delay
            and (window is None or time - then <= window)
        ]
        assert counts[i] == len(seen)
        assert sums[i, 0] == sum(j + 1 for j in seen)


@given(shown=ROWS, clicked=ROWS, within=st.integers(0, 5))
def test_a_click_belongs_to_the_latest_impression_before_it(
    shown: list[tuple[int, int]], clicked: list[tuple[int, int]], within: int
) -> None:
    delays = attribute_clicks(*split(shown), *split(clicked), within)
    expected = [-1] * len(shown)
    for key, time in clicked:
        keyed = [(then, i) for i, (other, then) in enumerate(shown) if other == key != 0]
        before = [(then, i) for then, i in keyed if then <= time]
        if before:
            then, owner = max(before)
            if time - then <= within and (expected[owner] < 0 or time - then < expected[owner]):
                expected[owner] = time - then
    assert delays.tolist() == expected


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
