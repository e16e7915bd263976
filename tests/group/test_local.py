"""Logical workers in one process."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ClusterError, ConfigError
from weiml.group import LocalGroup, WorkerContext
from weiml.group.base import Collective


def count_calls(context: WorkerContext, start: int) -> tuple[int, int]:
    context.memory["calls"] = context.memory.get("calls", start) + 1
    return context.rank, context.memory["calls"]


def running_mean(context: WorkerContext, rounds: int) -> Collective:
    value = np.full(3, context.rank, np.float32)
    for _ in range(rounds):
        value = (yield value) + np.float32(context.rank)
    return float(value[0])


def take_turns(context: WorkerContext, log: list[str]) -> Collective:
    for letter in "ab":
        log.append(f"{letter}{context.rank}")
        assert (yield None) is None


def mixed(context: WorkerContext) -> Collective:
    yield None if context.rank else np.zeros(1, np.float32)


def uneven(context: WorkerContext) -> Collective:
    for _ in range(context.rank):
        yield np.zeros(1, np.float32)


def test_functions_keep_their_own_memory_on_each_worker() -> None:
    group = LocalGroup(3)
    assert group.execute(count_calls, 10) == [(0, 11), (1, 11), (2, 11)]
    assert group.execute(count_calls, 10) == [(0, 12), (1, 12), (2, 12)]


def test_collectives_run_in_lock_step() -> None:
    # Means are 1, then 1 + 1, …: after k rounds worker r holds k + r.
    assert LocalGroup(3).run(running_mean, 4) == [4.0, 5.0, 6.0]
    assert LocalGroup(3).run(running_mean, 0) == [0.0, 1.0, 2.0]


def test_uneven_workers_are_an_error() -> None:
    with pytest.raises(ClusterError, match="1 of 2 workers finished"):
        LocalGroup(2).run(uneven)


def test_workers_take_turns() -> None:
    log: list[str] = []
    LocalGroup(3).run(take_turns, log)
    assert log == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_a_mean_of_some_workers_is_an_error() -> None:
    with pytest.raises(ClusterError, match="1 of 2 workers ask for a mean"):
        LocalGroup(2).run(mixed)


def test_a_closed_group_refuses_work() -> None:
    with LocalGroup(2) as group:
        pass
    group.shutdown()
    with pytest.raises(ClusterError, match="shut down"):
        group.execute(count_calls, 0)


def test_at_least_one_worker() -> None:
    with pytest.raises(ConfigError, match="num_workers must be at least 1, got 0"):
        LocalGroup(0)
