from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams.watermark import BEGIN, END, Watermarks, checked_times, event_times
from weiml.errors import DataError


def late(marks: Watermarks, partition: str, times: list[int], now_ms: float = 0.0) -> list[bool]:
    zeros = np.zeros(len(times), np.int32)
    return marks.late((partition,), zeros, np.array(times), now_ms)[0].tolist()  # type: ignore[no-any-return]


def test_an_event_is_late_below_its_own_partitions_clock() -> None:
    marks = Watermarks(10, 1000)
    assert late(marks, "a", [100, 90, 89, 120, 111, 109]) == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert late(marks, "b", [5]) == [False]


def test_the_watermark_is_the_smallest_clock_and_never_falls() -> None:
    marks = Watermarks(10, 1000)
    late(marks, "a", [100])
    assert marks.advance({"a": 0, "b": 3}, 0) == BEGIN  # b has something to say, no one knows what
    late(marks, "b", [50])
    assert marks.advance({"a": 0, "b": 0}, 0) == 40
    late(marks, "c", [45])
    assert marks.advance({"a": 0, "b": 0, "c": 0}, 0) == 40
    assert marks.finish() == END


def test_idle_partitions_hold_nothing_up() -> None:
    marks = Watermarks(10, 1000)
    late(marks, "a", [100], 0)
    late(marks, "b", [50], 0)
    late(marks, "a", [200], 900)
    assert marks.advance({"a": 0, "b": 0, "new": 0}, 999) == 40
    assert marks.advance({"a": 0, "b": 7}, 1500) == 40  # not idle: it has events that wait
    assert marks.advance({"a": 0, "b": 0}, 1500) == 190
    assert late(marks, "b", [60, 195], 1600) == [True, False]
    assert marks.advance({"a": 0, "b": 0}, 1600) == 190
    assert marks.advance({"a": 0, "b": 0}, 9999) == 190


def test_state_goes_on() -> None:
    marks, again = Watermarks(10, 1000), Watermarks(10, 1000)
    late(marks, "a", [100])
    marks.advance({"a": 0}, 0)
    again.restore(marks.state())
    assert (again.value, again.newest) == (90, 100)
    assert late(again, "a", [89, 90]) == [True, False]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200)), max_size=60),
    st.integers(0, 40),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_who_is_late_does_not_depend_on_batches(
    events: list[tuple[int, int]], lateness: int, cuts: list[int]
) -> None:
    newest: dict[int, int] = {}
    expected = []
    for partition, time in events:
        expected.append(time < newest.get(partition, time) - lateness)
        newest[partition] = max(newest.get(partition, time), time)
    marks, found = Watermarks(lateness, 10**9), list[bool]()
    bounds = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    for start, stop in pairwise(bounds):
        some = np.array(events[start:stop])
        names = ("a", "b", "c")
        found += marks.late(names, some[:, 0].astype(np.int32), some[:, 1], 0)[0].tolist()
        marks.advance(dict.fromkeys(names, 1), 0)
    assert found == expected


def test_times_of_all_units() -> None:
    table = pa.table(
        {
            "n": [-1, 1500],
            "t": pa.array([-1500, 2_500_000], pa.timestamp("us", "UTC")),
            "x": [0.5, 1.0],
            "none": pa.array([None, 1], pa.int64()),
        }
    )
    assert event_times(table, "n").tolist() == [-1, 1500]
    assert event_times(table, "n", "s").tolist() == [-1000, 1_500_000]
    assert event_times(table, "t").tolist() == [-2, 2500]
    for column, text in (("x", "double"), ("none", "nullable=False"), ("N", "known: n, none")):
        with pytest.raises(DataError, match=text):
            event_times(table, column)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_beyond_reason_are_told_and_not_wrapped(unit: str) -> None:
    per_second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    farthest = min(2**53 * per_second // 1000, 2**63 - 1)
    numbers = [farthest, -farthest, 0, farthest + 1, 2**63 - 1, -(2**63)]
    numbers = [min(number, 2**63 - 1) for number in numbers]
    times, inside = checked_times(pa.table({"t": numbers}), "t", unit)
    assert inside.tolist() == [abs(number) <= farthest for number in numbers]
    expected = [number * 1000 // per_second for number in numbers]
    assert times.tolist() == [t if ok else 0 for t, ok in zip(expected, inside, strict=True)]
    large = pa.table({"t": pa.array([5, 2**64 - 1], pa.uint64())})
    assert checked_times(large, "t", unit)[1].tolist() == [True, False]
    with pytest.raises(DataError, match=f"1 values of 't' are no times in {unit}"):
        event_times(large, "t", unit)
    small = pa.table({"t": pa.array([5, 255], pa.uint8())})
    assert checked_times(small, "t", unit)[1].all()


def test_each_event_is_told_the_clock_that_judged_it() -> None:
    marks = Watermarks(10, 1000)
    zeros = np.zeros(3, np.int32)
    _, clocks = marks.late(("a",), zeros, np.array([100, 95, 120]), 0)
    assert clocks.tolist() == [BEGIN, 90, 90]
    marks.advance({"a": 0}, 0)
    _, clocks = marks.late(("b",), zeros, np.array([200, 95, 120]), 0)
    assert clocks.tolist() == [110, 190, 190]
