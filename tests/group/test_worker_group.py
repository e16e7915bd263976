"""Workers in processes of their own: equal to logical workers, and gone when something fails."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from weiml.errors import ClusterError, ConfigError, DataError
from weiml.group import LocalGroup, WorkerContext, WorkerGroup, WorkerGroupConfig
from weiml.group.base import Collective
from weiml.group.member import GroupWorker


# Ray sends these functions by value: workers cannot import the tests.
def make_functions() -> dict[str, Any]:
    def pid(context: WorkerContext) -> tuple[int, int]:
        return context.rank, os.getpid()

    def remember(context: WorkerContext, value: int) -> int:
        context.memory["sum"] = context.memory.get("sum", 0) + value * (context.rank + 1)
        return int(context.memory["sum"])

    def noisy_means(context: WorkerContext, rounds: int) -> Collective:
        generator = np.random.default_rng(context.rank)
        total = np.zeros(1000, np.float32)
        for _ in range(rounds):
            total += yield generator.standard_normal(1000, np.float32)
        return total

    def fail_on_last(context: WorkerContext) -> Collective:
        yield np.zeros(4, np.float32)
        if context.rank == context.num_workers - 1:
            raise DataError("example 17 is broken")
        yield np.zeros(4, np.float32)

    def die_on_last(context: WorkerContext) -> Collective:
        yield np.zeros(4, np.float32)
        if context.rank == context.num_workers - 1:
            os._exit(3)
        yield np.zeros(4, np.float32)

    return {f.__name__: f for f in (pid, remember, noisy_means, fail_on_last, die_on_last)}


FUNCTIONS = make_functions()


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_means_are_bit_equal_to_logical_workers(ray_session: None) -> None:
    with WorkerGroup.create(2, cpus_per_worker=0.5) as group:
        ranks, pids = zip(*group.execute(FUNCTIONS["pid"]), strict=True)
        assert ranks == (0, 1)
        assert len(set(pids)) == 2
        assert group.execute(FUNCTIONS["remember"], 5) == [5, 10]
        assert group.execute(FUNCTIONS["remember"], 5) == [10, 20]
        remote = group.run(FUNCTIONS["noisy_means"], 5)
        local = LocalGroup(2).run(FUNCTIONS["noisy_means"], 5)
        for mine, theirs in zip(remote, local, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        means = group.all_reduce_mean([np.ones(2, np.float32), np.full(2, 4, np.float32)])
        np.testing.assert_array_equal(means, np.full((2, 2), 2.5, np.float32))
    assert gone(list(pids))
    with pytest.raises(ClusterError, match="shut down"):
        group.execute(FUNCTIONS["pid"])


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("fail_on_last", DataError, "example 17 is broken"),
        ("die_on_last", ClusterError, "worker 1 of 2 died"),
    ],
)
def test_a_failure_ends_the_whole_group(
    ray_session: None, function: str, kind: type[Exception], message: str
) -> None:
    with WorkerGroup.create(2, cpus_per_worker=0.5) as group:
        pids = [pid for _, pid in group.execute(FUNCTIONS["pid"])]
        with pytest.raises(kind, match=message):
            group.run(FUNCTIONS[function])
        assert gone(pids)


def test_ring_reduction_gives_the_mean(ray_session: None) -> None:
    with WorkerGroup.create(2, cpus_per_worker=0.5, reduction="ring") as group:
        remote = group.run(FUNCTIONS["noisy_means"], 2)
        local = LocalGroup(2).run(FUNCTIONS["noisy_means"], 2)
        np.testing.assert_allclose(remote[0], local[0], atol=1e-6)


def test_a_worker_that_never_joined_cannot_average() -> None:
    with pytest.raises(ClusterError, match="backend 'none'"):
        GroupWorker(0, 2, WorkerGroupConfig(num_workers=2)).run(FUNCTIONS["noisy_means"], (1,))


def test_no_room_is_a_clear_error(ray_session: None) -> None:
    with pytest.raises(ClusterError, match="no room for a gang of 1 workers with 1000 CPU each"):
        WorkerGroup.create(1, cpus_per_worker=1000, timeout_s=0.5)


def test_wrong_arguments_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gloo'"):
        WorkerGroup.create(1, backend="glo")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="num_workers"):
        WorkerGroup.create(0)
