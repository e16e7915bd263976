"""The states of a supervised group."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from weiml.errors import ClusterError, DataError
from weiml.group import GangState, Supervisor, WorkerGroup, WorkerGroupConfig

CONFIG = WorkerGroupConfig(max_restarts=2, restart_wait_s=3.0)


def failing(config: WorkerGroupConfig) -> WorkerGroup:
    raise ClusterError("no room")


def test_a_gang_that_never_starts_is_tried_as_often_as_asked_for() -> None:
    waits: list[float] = []
    supervisor = Supervisor(CONFIG, start=failing, sleep=waits.append)
    assert supervisor.state is GangState.NEW
    states = [supervisor.step() for _ in range(4)]
    assert states == [GangState.BROKEN, GangState.BROKEN, GangState.FAILED, GangState.FAILED]
    assert waits == [3.0, 6.0]
    assert supervisor.restarts == 2
    with pytest.raises(ClusterError, match="the worker group is failed"):
        _ = supervisor.group
    with pytest.raises(ClusterError, match="no room"):
        supervisor.run(lambda group: None)
    supervisor.close()
    assert supervisor.step() is GangState.CLOSED


def test_without_restarts_the_first_failure_is_the_last() -> None:
    supervisor = Supervisor(WorkerGroupConfig(), start=failing)
    assert supervisor.step() is GangState.FAILED
    assert str(supervisor.error) == "no room"


def make_rank() -> Any:
    def rank(context: Any) -> int:  # by value: workers cannot import the tests
        return int(context.rank)

    return rank


RANK = make_rank()


def test_a_killed_worker_brings_a_new_gang_and_the_work_goes_on(ray_session: None) -> None:
    config = WorkerGroupConfig(
        num_workers=2, cpus_per_worker=0.5, max_restarts=1, restart_wait_s=0.0
    )
    sizes: list[int] = []
    with Supervisor(config) as supervisor:

        def attempt(group: WorkerGroup) -> list[int]:
            sizes.append(group.num_workers)
            if len(sizes) == 1:
                os.kill(group.workers[1].pid, signal.SIGKILL)
            return group.execute(RANK)

        assert supervisor.run(attempt) == [0, 1]
        assert (sizes, supervisor.restarts) == ([2, 2], 1)
        assert supervisor.step() is GangState.RUNNING  # a look: all live
        assert supervisor.room_to_grow() == 0
        pid = supervisor.group.workers[0].pid
        os.kill(pid, signal.SIGKILL)
        assert supervisor.step() is GangState.FAILED
        assert f"process {pid}" in str(supervisor.error)
    assert supervisor.state is GangState.CLOSED


def test_a_group_grows_when_there_is_room_again(ray_session: None) -> None:
    config = WorkerGroupConfig(
        num_workers=1, max_workers=2, cpus_per_worker=0.8, backend="none", start_timeout_s=20
    )
    blocker = WorkerGroup.create(1, cpus_per_worker=0.8, backend="none")
    with blocker, Supervisor(config) as supervisor:
        supervisor.step()
        assert supervisor.group.num_workers == 1
        blocker.shutdown()
        supervisor.resize()
        assert supervisor.group.num_workers == 2
        assert supervisor.restarts == 0


def test_errors_of_the_work_itself_are_not_tried_again() -> None:
    class Healthy:
        def shutdown(self) -> None:
            closed.append(True)

    closed: list[bool] = []

    def broken(group: Any) -> None:
        raise DataError("example 17")

    supervisor = Supervisor(CONFIG, start=lambda config: Healthy())  # type: ignore[arg-type,return-value]
    with supervisor, pytest.raises(DataError, match="example 17"):
        supervisor.run(broken)
    assert supervisor.restarts == 0
    assert closed == [True]
