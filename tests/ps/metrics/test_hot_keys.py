"""The summary of hot keys against exact counts, and the sample that feeds it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.metrics.hot_keys import HotKeys, KeySampler

key = st.integers(0, 12) | st.sampled_from([2**64 - 1, 2**63, 10**15])
batches = st.lists(
    st.tuples(st.lists(key, max_size=40), st.sampled_from([0.5, 1.0, 4.0])), max_size=12
)


def kept(summary: HotKeys) -> dict[int, float]:
    keys, weights = summary.top(10**6)
    return dict(zip(keys.tolist(), weights.tolist(), strict=True))


def expect_within_bounds(summary: HotKeys, exact: Counter[int]) -> None:
    found = kept(summary)
    assert len(summary) == len(found) <= summary.capacity
    assert summary.total == sum(exact.values())
    assert summary.error <= summary.total / (summary.capacity + 1)
    for k in {*found, *exact}:
        assert found.get(k, 0.0) <= exact[k] <= found.get(k, 0.0) + summary.error


@given(capacity=st.integers(1, 9), left=batches, right=batches, fade=st.booleans())
def test_estimates_keep_their_bound_however_keys_come_are_scaled_and_merged(
    capacity: int,
    left: list[tuple[list[int], float]],
    right: list[tuple[list[int], float]],
    fade: bool,
) -> None:
    summaries = []
    counts: Counter[int] = Counter()
    for side in (left, right):
        summary = HotKeys(capacity)
        own: Counter[int] = Counter()
        for keys, weight in side:
            summary.add(np.array(keys, np.uint64), weight)
            for k in keys:
                own[k] += weight  # type: ignore[assignment]
            expect_within_bounds(summary, own)
        if fade:
            summary.scale(0.5)
            own = Counter({k: c * 0.5 for k, c in own.items()})
            expect_within_bounds(summary, own)
        summaries.append(summary)
        counts.update(own)
    summaries[0].merge(summaries[1])
    expect_within_bounds(summaries[0], counts)


def test_with_room_for_all_keys_counts_are_exact_and_come_in_order() -> None:
    summary = HotKeys(8)
    summary.add(np.array([7, 0, 7, 3, 7, 0], np.uint64))
    keys, weights = summary.top(2)
    assert (keys.tolist(), weights.tolist()) == ([7, 0], [3.0, 2.0])
    assert summary.error == 0.0
    summary.add(np.array([3], np.uint64))
    assert summary.top(3)[0].tolist() == [7, 0, 3]  # equals by key


def test_hot_keys_stand_out_of_a_long_tail_in_little_room(rng: np.random.Generator) -> None:
    summary = HotKeys(200)
    for _ in range(100):
        tail = rng.integers(100, 10**9, 1000).astype(np.uint64)
        hot = np.repeat(np.arange(5, dtype=np.uint64), np.arange(60, 10, -10))
        summary.add(np.concatenate([tail, hot]))
    assert summary.top(5)[0].tolist() == [0, 1, 2, 3, 4]


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("size", [1000, 10_000])
def test_under_load_a_sample_finds_what_every_request_asks_for(
    rng: np.random.Generator, size: int
) -> None:
    clock = Clock()
    sampler = KeySampler(clock)
    always = np.arange(10, dtype=np.uint64)
    half = np.arange(20, 30, dtype=np.uint64)
    requests = 8_000_000 // size
    for turn in range(requests):
        clock.now += size / 1e6  # a million keys a second
        often = half if turn % 2 else np.empty(0, np.uint64)
        rest = rng.integers(100, 10**12, size - len(often) - 10).astype(np.uint64)
        sampler.see(np.concatenate([always, often, rest]))
    assert sampler.keys == requests * size
    assert sampler.stride == 64
    summary, seen = sampler.look()
    assert seen == requests
    assert len(summary) <= summary.capacity
    # Each key was counted by chance: the ten of each kind together show how often they occur.
    share = {k: (w + summary.error / 2) / seen for k, w in kept(summary).items()}
    assert sum(share.get(k, 0.0) for k in range(10)) / 10 == pytest.approx(1.0, rel=0.5)
    if size == 1000:
        assert sum(share.get(k, 0.0) for k in range(20, 30)) / 10 == pytest.approx(0.5, rel=0.5)


def test_few_requests_are_counted_one_by_one() -> None:
    sampler = KeySampler(Clock())
    for keys in ([1, 2, 3], [2, 3], [3]):
        sampler.see(np.array(keys, np.uint64))
    summary, requests = sampler.look()
    assert kept(summary) == {3: 3.0, 2: 2.0, 1: 1.0}
    assert (requests, sampler.keys) == (3.0, 6)


def test_what_lies_a_minute_back_counts_half_and_is_forgotten_at_last() -> None:
    clock = Clock()
    sampler = KeySampler(clock)
    for _ in range(8):
        sampler.see(np.array([5], np.uint64))
    clock.now = 130.0
    summary, requests = sampler.look()
    assert (kept(summary), requests) == ({5: 2.0}, 2.0)
    sampler.see(np.array([6], np.uint64))
    assert kept(sampler.look()[0]) == {5: 2.0, 6: 1.0}
    clock.now = 10_000.0
    assert (len(sampler.look()[0]), sampler.look()[1]) == (0, 0.0)
