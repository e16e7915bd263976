"""Workers in processes of their own: equal to logical workers, and gone when something fails."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weiml.errors import ClusterError, ConfigError, DataError
from weiml.group import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Group,
    LocalGroup,
    Start,
    WorkerContext,
    WorkerGroup,
    WorkerGroupConfig,
    check_group,
)
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

    def everything(context: WorkerContext, length: int) -> Collective:
        draw = np.random.default_rng(context.rank).standard_normal
        arrays = [draw(length).astype(np.float32), draw((3, 5)), draw(()).astype(np.float32)]
        got: dict[str, Any] = {}
        long = yield Start(AllReduce(draw(4 * length).astype(np.float32), "mean", "none"))
        summed = yield Start(AllReduce(np.arange(length) * context.rank, "sum"))
        got["list"] = yield arrays
        got["max"] = yield AllReduce(arrays, "max")
        got["short"] = yield AllReduce(arrays[0], "mean", "float16")
        got["gathered"] = yield AllGather(np.array([2**63 + context.rank], np.uint64))
        got["long"] = yield long
        got["sent"] = yield Broadcast(arrays[1], root=context.num_workers - 1)
        yield Barrier()
        got["sum"] = yield summed
        got["empty"] = yield np.zeros((0, 3), np.float32)
        return got

    def uneven(context: WorkerContext) -> Collective:
        for _ in range(1 + context.rank):
            yield np.zeros(4, np.float32)

    def other_shapes(context: WorkerContext) -> Collective:
        yield np.zeros(1 + context.rank, np.float32)

    def tensors(context: WorkerContext) -> Collective:
        import torch

        torch.set_num_threads(1)
        mean = yield torch.full((3,), float(context.rank))
        return type(mean).__name__, mean.tolist(), context.device

    def overlap(context: WorkerContext, file: str) -> Collective:
        """Worker 0 computes on while its array is under way; worker 1 comes only then."""
        deadline = time.monotonic() + 60
        while context.rank == 1 and not os.path.exists(file):
            assert time.monotonic() < deadline, "worker 0 waits in Start"
            time.sleep(0.01)
        handle = yield Start(np.full(100_000, context.rank, np.float32))
        open(file, "w").close()
        return float((yield handle)[0])

    functions = (overlap, pid, remember, noisy_means, fail_on_last, die_on_last, everything, uneven)
    return {f.__name__: f for f in (*functions, other_shapes, tensors)}


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
        pytest.param("die_on_last", ClusterError, "worker 1 of 2 died", marks=pytest.mark.slow),
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


def assert_same(mine: Any, theirs: Any) -> None:
    if isinstance(mine, list):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(one, other)
    else:
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_everything_is_bit_equal_to_logical_workers(ray_session: None, tmp_path: Path) -> None:
    # Buckets of 1 KiB: the arrays travel in several.
    config = WorkerGroupConfig(
        num_workers=3, cpus_per_worker=0.5, bucket_bytes=1024, compression="bfloat16"
    )
    local = LocalGroup(3, compression="bfloat16").run(FUNCTIONS["everything"], 1001)
    with WorkerGroup.start(config) as group:
        assert group.backend == "gloo"
        remote = group.run(FUNCTIONS["everything"], 1001)
        assert group.run(FUNCTIONS["tensors"]) == [("Tensor", [1.0] * 3, "cpu")] * 3
        assert check_group(group, 4096, 2).num_workers == 3
        assert group.run(FUNCTIONS["overlap"], str(tmp_path / "file")) == [1.0] * 3
    for mine, theirs in zip(remote, local, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert_same(mine[name], theirs[name])
    assert np.abs(remote[0]["long"]).sum() > 0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("compression", ["none", "bfloat16"])
def test_nccl_is_bit_equal_to_logical_workers(ray_session: None, compression: Any) -> None:
    local = LocalGroup(2, compression=compression).run(FUNCTIONS["everything"], 1001)
    config = WorkerGroupConfig(
        num_workers=2, gpus_per_worker=1.0, cpus_per_worker=0.5, compression=compression
    )
    with WorkerGroup.start(config) as group:
        assert group.backend == "nccl"
        assert len({worker.device_name for worker in group.workers}) == 1
        remote = group.run(FUNCTIONS["everything"], 1001)
        assert check_group(group, 1 << 26).num_workers == 2
    for mine, theirs in zip(remote, local, strict=True):
        for name in mine:
            assert_same(mine[name], theirs[name])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("uneven", "worker 0 asks for the end of its function, worker 1 for a mean"),
        pytest.param(
            "other_shapes",
            r"worker 0 asks for a mean of float32\[1\], worker 1 for a mean of",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_mistakes_are_named_and_hang_nobody(ray_session: None, function: str, message: str) -> None:
    with (
        WorkerGroup.create(2, cpus_per_worker=0.5) as group,
        pytest.raises(ClusterError, match=message),
    ):
        group.run(FUNCTIONS[function])


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_named(ray_session: None) -> None:
    config = WorkerGroupConfig(
        num_workers=2, cpus_per_worker=0.5, collective_timeout_s=1.0, notice_timeout_s=0.2
    )
    with WorkerGroup.start(config) as group:
        pids = [worker.pid for worker in group.workers]
        os.kill(pids[1], signal.SIGSTOP)
        with pytest.raises(ClusterError, match="1 of 2 workers lost the others; worker 1 did not"):
            group.run(FUNCTIONS["noisy_means"], 1)
        assert gone(pids)
        group.restart()
        os.kill(group.workers[0].pid, signal.SIGSTOP)
        with pytest.raises(ClusterError, match="worker 0 of 2 does not answer within 1 s"):
            group.check()
        group.restart()
        assert group.run(FUNCTIONS["noisy_means"], 1)[0].shape == (1000,)


@pytest.mark.slow
def test_a_dead_worker_is_noticed_between_calls_and_the_group_starts_again(
    ray_session: None,
) -> None:
    with WorkerGroup.create(2, cpus_per_worker=0.5) as group:
        group.check()
        assert group.execute(FUNCTIONS["remember"], 5) == [5, 10]
        old = [worker.pid for worker in group.workers]
        os.kill(old[0], signal.SIGKILL)
        with pytest.raises(ClusterError, match=f"worker 0 of 2 died .process {old[0]} on"):
            group.check()
        assert gone(old)
        with pytest.raises(ClusterError, match="restart it"):
            group.execute(FUNCTIONS["pid"])
        group.restart()
        assert group.execute(FUNCTIONS["remember"], 5) == [5, 10]  # nothing is remembered


@pytest.mark.slow
def test_groups_are_interchangeable(ray_session: None) -> None:
    with WorkerGroup.create(1, cpus_per_worker=0.5, verify=False) as group:
        groups: list[Group] = [LocalGroup(1), group]
        results = [one.run(FUNCTIONS["everything"], 10)[0] for one in groups]
        for name in results[0]:
            assert_same(results[0][name], results[1][name])


@pytest.mark.slow
def test_ring_reduction_gives_the_mean(ray_session: None) -> None:
    with WorkerGroup.create(2, cpus_per_worker=0.5, reduction="ring", verify=False) as group:
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
