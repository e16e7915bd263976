"""Logical workers in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ClusterError, ConfigError
from weiml.group import AllReduce, Barrier, LocalGroup, Start, WorkerContext
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


def overlapped(context: WorkerContext) -> Collective:
    array = np.full(2, context.rank, np.float32)
    first = yield Start(array)
    array[:] = 100  # it was copied
    second = yield Start(AllReduce(array, "sum"))
    between = yield np.ones(1, np.float32)
    sums = yield second
    mean = yield first
    return mean[0], sums[0], between[0]


def waited_twice(context: WorkerContext) -> Collective:
    handle = yield Start(np.zeros(1))
    yield handle
    yield handle


def other_handles(context: WorkerContext) -> Collective:
    handles = []
    for _ in range(2):
        handles.append((yield Start(np.zeros(1))))
    yield handles[context.rank]


def other_shapes(context: WorkerContext) -> Collective:
    yield np.zeros(1 + context.rank)


def start_or_wait(context: WorkerContext) -> Collective:
    yield Start(np.zeros(1)) if context.rank else Barrier()


def test_a_started_mean_is_there_when_it_is_asked_for() -> None:
    assert LocalGroup(3).run(overlapped) == [(1.0, 300.0, 1.0)] * 3


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (waited_twice, "request 1 is not under way"),
        (other_handles, "worker 0 asks for the answer of request 1, worker 1 for the answer of"),
        (other_shapes, r"worker 0 asks for a mean of float64\[1\], worker 1 for a mean of float64"),
        (start_or_wait, "worker 0 asks for a barrier, worker 1 for the start of a mean"),
    ],
)
def test_workers_that_ask_for_other_things_are_an_error(function: Any, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        LocalGroup(2).run(function)


def test_gradients_are_rounded_as_if_they_travelled() -> None:
    arrays = [np.array([1.001], np.float32), np.array([2.003], np.float32)]
    plain = LocalGroup(2).all_reduce_mean(arrays)[0]
    short = LocalGroup(2, compression="bfloat16").all_reduce_mean(arrays)[0]
    assert plain[0] == pytest.approx(1.502)
    assert short[0] == 1.5
    alone = LocalGroup(1, compression="bfloat16").all_reduce_mean(arrays[:1])[0]
    assert alone[0] == np.float32(1.001)


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
