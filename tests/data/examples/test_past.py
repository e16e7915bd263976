from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.examples.past import SortedTimes, attribute_clicks, window_sums

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=14)


def split(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.array([key for key, _ in rows], np.uint64)
    return keys, np.array([time for _, time in rows], np.int64)


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
