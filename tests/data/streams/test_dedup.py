from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams import Deduplicator

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
        assert seen.first(ids, np.array([event[1] for event in batch])).tolist() == expected
    assert len(seen) == len(known)
    again = Deduplicator(0)
    again.restore(seen.state())
    every = np.arange(1, 41, dtype=np.uint64)
    assert [not first for first in again.first(every, np.zeros(40))] == [i in known for i in every]


def test_ids_below_the_horizon_are_forgotten() -> None:
    seen = Deduplicator(5_000)
    ids = np.arange(1, 10_001, dtype=np.uint64)
    assert seen.first(ids, np.arange(10_000)).all()
    assert not seen.first(ids, np.arange(10_000)).any()
    seen.advance(6_000)
    assert len(seen) == 9_000
    assert seen.first(ids, np.arange(10_000)).sum() == 1_000
