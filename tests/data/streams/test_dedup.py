from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams import Deduplicator
from weiml.data.streams.watermark import BEGIN, Watermarks

Batches = st.lists(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 99)), max_size=30))


@given(Batches)
def test_the_first_of_each_id_counts(batches: list[list[tuple[int, int]]]) -> None:
    seen, known = Deduplicator(0), set[int]()
    for batch in batches:
        ids = np.array([event[0] for event in batch], np.uint64)
        expected = []
        for event in batch:
            expected.append(event[0] not in known)
            known.add(event[0])
        assert first(seen, ids, np.array([event[1] for event in batch])).tolist() == expected
    assert len(seen) == len(known)
    again = Deduplicator(0)
    again.restore(seen.state())
    every = np.arange(1, 41, dtype=np.uint64)
    assert first(again, every, np.zeros(40)).tolist() == [i not in known for i in every]


def test_ids_below_the_horizon_are_forgotten() -> None:
    seen = Deduplicator(5_000)
    ids = np.arange(1, 10_001, dtype=np.uint64)
    assert first(seen, ids, np.arange(10_000)).all()
    assert not first(seen, ids, np.arange(10_000)).any()
    seen.advance(6_000)
    assert len(seen) == 9_000
    assert first(seen, ids, np.arange(10_000)).sum() == 1_000


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 60_000)), max_size=40),
    st.sampled_from([0, 3_000, 20_000]),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_what_is_repeated_does_not_depend_on_batches(
    events: list[tuple[int, int]], horizon: int, cuts: list[int]
) -> None:
    def judged(bounds: list[int]) -> list[tuple[bool, bool]]:
        marks, seen, found = Watermarks(5_000, 10**9), Deduplicator(horizon), []
        for start, stop in pairwise(bounds):
            some = np.array(events[start:stop]).reshape(-1, 2)
            zeros = np.zeros(len(some), np.int32)
            late, clocks = marks.late(("a",), zeros, some[:, 1], 0)
            new = np.zeros(len(some), np.bool_)
            ids = some[:, 0].astype(np.uint64)
            new[~late] = seen.first(ids[~late], some[~late, 1], clocks[~late])
            found += list(zip(late.tolist(), new.tolist(), strict=True))
            seen.advance(marks.advance({"a": 1}, 0))
        return found

    n = len(events)
    whole = judged([0, n])
    assert judged(sorted({0, n, *(min(cut, n) for cut in cuts)})) == whole
    assert judged(list(range(n + 1))) == whole


def test_an_id_is_known_up_to_the_horizon_behind_the_clock() -> None:
    seen, one = Deduplicator(10), np.ones(1, np.uint64)
    for time, clock, new in ((0, 0, True), (10, 10, False), (21, 20, False), (40, 32, True)):
        assert seen.first(one, np.array([time]), np.array([clock])).tolist() == [new], time
    assert len(seen) == 1


def first(seen: Deduplicator, ids: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return which are new, of events that come before any clock has moved."""
    return seen.first(ids, times, np.full(len(ids), BEGIN))
