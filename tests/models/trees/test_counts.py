"""Counts of keys: exact and mergeable while they fit, frequent keys stay when they don't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.features import Batch
from weiml.models.trees.counts import KeyCounts, count_slots

KEYS = st.lists(st.integers(1, 20), max_size=60)


@given(first=KEYS, second=KEYS, count=st.integers(0, 25))
def test_the_most_frequent_keys_are_those_of_a_counter_however_they_were_merged(
    first: list[int], second: list[int], count: int
) -> None:
    one, other = KeyCounts(), KeyCounts()
    one.add(np.array(first, np.uint64))
    other.add(np.array(second, np.uint64))
    one.merge(other)
    counted = Counter(first + second)
    expected = sorted(counted, key=lambda key: (-counted[key], key))[:count]
    assert one.most_frequent(count).tolist() == expected


def test_keys_of_more_than_their_share_survive_a_capacity() -> None:
    rng = np.random.default_rng(0)
    counts = KeyCounts(capacity=50)
    for _ in range(20):
        rare = rng.integers(1000, 10**9, 1000).astype(np.uint64)
        counts.add(np.concatenate([rare, np.full(100, 7, np.uint64), np.full(60, 8, np.uint64)]))
        assert counts.most_frequent(2).tolist() == [7, 8]
    assert len(counts.most_frequent(1000)) <= 50


def test_slots_tell_how_many_keys_an_example_has_and_if_they_have_values(
    examples_of: Callable[..., Batch],
) -> None:
    batch = examples_of(300)
    counts = [KeyCounts(), KeyCounts()]
    count_slots(batch, counts)
    assert [c.most_in_example for c in counts] == [1, 3]
    assert [c.valued for c in counts] == [False, False]
    cities, times = np.unique(batch.groups, return_counts=True)
    assert counts[0].most_frequent(1)[0] == cities[times.argmax()] + 100
