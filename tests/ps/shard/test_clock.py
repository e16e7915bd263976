"""The clock's bound, for every staleness and any history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.shard.clock import Clock


@given(
    num_workers=st.integers(1, 5),
    staleness=st.integers(0, 4),
    choices=st.lists(st.integers(0, 4), max_size=60),
)
def test_no_worker_that_reads_before_each_step_gets_further_ahead_than_the_bound(
    num_workers: int, staleness: int, choices: list[int]
) -> None:
    clock = Clock(num_workers, staleness)
    for choice in choices:
        worker = choice % num_workers
        if not clock.waiting_for(clock.ticks[worker]):
            clock.tick(worker)
        assert max(clock.ticks) - min(clock.ticks) <= staleness + 1
        assert any(not clock.waiting_for(tick) for tick in clock.ticks)  # never a deadlock


def test_without_a_bound_nobody_waits() -> None:
    clock = Clock(2, None)
    for _ in range(100):
        clock.tick(0)
    assert clock.waiting_for(100) == []


def test_it_says_who_is_waited_for() -> None:
    clock = Clock(4, 1)
    for worker in (0, 0, 0, 1, 1, 2):
        clock.tick(worker)
    assert clock.waiting_for(3) == [2, 3]
    clock.finish(3)
    assert clock.waiting_for(3) == [2]
    assert clock.floor == 1


@pytest.mark.parametrize("first", [0, 1])
def test_a_new_round_starts_level_whoever_comes_back_first(first: int) -> None:
    clock = Clock(2, 0)
    clock.tick(0)
    clock.finish(0)
    clock.finish(1)
    assert clock.floor is None
    assert clock.join(first) == clock.join(1 - first) == 1
    assert clock.waiting_for(2) == [0, 1]


def test_one_who_comes_back_among_others_starts_at_the_slowest() -> None:
    clock = Clock(3, 0)
    clock.finish(2)
    for worker in (0, 1, 0):
        clock.tick(worker)
    assert clock.join(2) == 1
    assert clock.join(0) == 2  # a live one goes on where it stands


def test_one_who_comes_back_ahead_of_others_goes_on_where_it_stood() -> None:
    clock = Clock(2, 0)
    clock.tick(0)
    clock.tick(0)
    clock.finish(0)
    assert clock.join(0) == 2


def test_in_a_new_round_those_still_to_come_are_waited_for() -> None:
    clock = Clock(2, 0)
    clock.finish(0)
    clock.finish(1)
    clock.join(0)
    clock.tick(0)
    assert clock.waiting_for(1) == [1]


@given(choices=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40))
def test_each_tick_gets_the_next_number_whoever_leaves_and_comes_back(
    choices: list[tuple[int, bool]],
) -> None:
    clock = Clock(3, 1)
    numbers = []
    for worker, leaves in choices:
        if leaves:
            clock.finish(worker)
            continue
        clock.join(worker)
        numbers.append(clock.tick(worker))
    assert numbers == list(range(1, len(numbers) + 1))
    assert clock.count == len(numbers)
