"""A shard is killed at random moments while it is trained: nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ps import training
from weiml.errors import ParameterServerError
from weiml.ps import SGD, Client, EmbeddedParameterServer, RayParameterServer, TableConfig

pytestmark = pytest.mark.usefixtures("ray_session")
DEADLINE_S = 60.0
SEED = int(os.environ.get("WEIML_FAULT_SEED", "7"))
KILLS = int(os.environ.get("WEIML_FAULT_KILLS", "2"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.02)


def healthy(ps: RayParameterServer) -> bool:
    return not ps.status()["degraded"]


def kill_primary(ps: RayParameterServer, shard: int) -> None:
    os.kill(ps.status()["shards"][shard]["pid"], signal.SIGKILL)


def keep_training(ps: RayParameterServer, worker: int, ticks: int) -> Client:
    client = ps.client(worker)
    for tick in range(ticks):
        training.step(client, tick)
    client.finish()
    return client


def test_under_bsp_the_numbers_are_those_of_a_run_without_kills(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(SEED)
    ticks = 60 * KILLS
    with RayParameterServer.create(2, 2, 0, "bsp-kills", replicas=2) as ps:
        training.create(ps)
        running = [pool.submit(keep_training, ps, worker, ticks) for worker in range(2)]
        for _ in range(KILLS):
            until(lambda: healthy(ps), "all stand-bys to be there")
            time.sleep(rng.uniform(0, 0.3))  # any moment: what the shard does then is the point
            kill_primary(ps, int(rng.integers(2)))
        clients = [future.result(DEADLINE_S) for future in running]
        until(lambda: healthy(ps), "the last stand-by to be rebuilt")
        assert ps.status()["failovers"] == KILLS
        assert sum(client.counts["lost_writes"] for client in clients) == 0
        training.assert_equal(training.content(ps), training.serial(2, ticks))


def test_under_asp_every_acknowledged_push_is_there_and_none_twice(
    pool: ThreadPoolExecutor,
) -> None:
    rng = np.random.default_rng(SEED)
    keys = np.arange(500, dtype=np.uint64)
    ones = np.ones((500, 1), np.float32)
    stop: Future[None] = Future()

    def push(client: Client) -> int:
        pushes = 0
        while not stop.done():
            client.wait(client.push("t", keys, ones))
            pushes += 1
        return pushes

    with RayParameterServer.create(1, 1, None, "asp-kills", replicas=2) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        running = [pool.submit(push, ps.client()) for _ in range(2)]
        for _ in range(KILLS):
            until(lambda: healthy(ps), "the stand-by to be there")
            time.sleep(rng.uniform(0, 0.3))
            kill_primary(ps, 0)
        until(lambda: healthy(ps), "the stand-by to be there")
        stop.set_result(None)
        acknowledged = sum(future.result(DEADLINE_S) for future in running)
        values = np.asarray(ps.client().pull("t", keys).wait())
        assert (values == -acknowledged).all()
        assert acknowledged > 0


def test_a_lost_stand_by_is_rebuilt_and_can_take_over(pool: ThreadPoolExecutor) -> None:
    with RayParameterServer.create(1, 2, 0, "standby-kill", replicas=2) as ps:
        training.create(ps)
        ticks = 80
        running = [pool.submit(keep_training, ps, worker, ticks) for worker in range(2)]
        pids = {pid for pid, _ in ps.status()["processes"]}
        [standby] = pids - {ps.status()["shards"][0]["pid"]}
        os.kill(standby, signal.SIGKILL)
        until(lambda: standby not in {p for p, _ in ps.status()["processes"]}, "its loss")
        until(lambda: healthy(ps), "the stand-by to be rebuilt")
        kill_primary(ps, 0)
        for future in running:
            future.result(DEADLINE_S)
        training.assert_equal(training.content(ps), training.serial(2, ticks))


def test_the_coordinator_may_die_and_still_see_to_a_failover(pool: ThreadPoolExecutor) -> None:
    with RayParameterServer.create(1, 2, 0, "coordinator-kill", replicas=2) as ps:
        training.create(ps)
        ticks = 60
        running = [pool.submit(keep_training, ps, worker, ticks) for worker in range(2)]
        before = ps.status()
        os.kill(before["pid"], signal.SIGKILL)
        kill_primary_of(before)
        for future in running:
            future.result(DEADLINE_S)
        until(lambda: healthy(ps), "the stand-by to be rebuilt")
        assert ps.status()["pid"] != before["pid"]
        training.assert_equal(training.content(ps), training.serial(2, ticks))


def test_the_coordinator_and_a_stand_by_may_die_together(pool: ThreadPoolExecutor) -> None:
    with RayParameterServer.create(1, 2, 0, "two-killed", replicas=2) as ps:
        training.create(ps)
        ticks = 80
        running = [pool.submit(keep_training, ps, worker, ticks) for worker in range(2)]
        before = ps.status()
        [standby] = standbys(before)
        os.kill(before["pid"], signal.SIGKILL)
        os.kill(standby, signal.SIGKILL)
        until(lambda: ps.status()["pid"] != before["pid"], "another coordinator")
        until(lambda: healthy(ps) and standbys(ps.status()) != {standby}, "another stand-by")
        kill_primary_of(before)  # only the new stand-by has it all now
        for future in running:
            future.result(DEADLINE_S)
        training.assert_equal(training.content(ps), training.serial(2, ticks))


def standbys(status: dict[str, Any]) -> set[int]:
    """Return the pids of the processes that speak for no shard."""
    return {pid for pid, _ in status["processes"]} - {shard["pid"] for shard in status["shards"]}


def test_a_primary_may_die_while_buckets_move(pool: ThreadPoolExecutor) -> None:
    with RayParameterServer.create(1, 2, 0, "move-kill", replicas=2) as ps:
        training.create(ps)
        ticks = 100
        running = [pool.submit(keep_training, ps, worker, ticks) for worker in range(2)]
        moving = pool.submit(ps.rescale, 2)
        # The new shard is there: what it is to have is about to be copied to it.
        until(lambda: len(ps.status()["processes"]) > 2 or moving.done(), "the new shard")
        kill_primary(ps, 0)
        moving.result(DEADLINE_S)
        for future in running:
            future.result(DEADLINE_S)
        until(lambda: healthy(ps), "the stand-bys to be there")
        status = ps.status()
        assert (status["num_shards"], status["failovers"]) == (2, 1)
        training.assert_equal(training.content(ps), training.serial(2, ticks))


def test_a_primary_may_die_while_it_is_saved(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    root = tmp_path / "root"
    keys = np.arange(2_000_000, dtype=np.uint64)
    with RayParameterServer.create(
        1, 1, None, "save-kill", replicas=2, checkpoint_root=str(root)
    ) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client = ps.client()
        client.wait(client.push("t", keys, np.ones((len(keys), 1), np.float32)))
        saving = pool.submit(ps.checkpoint, full=True)
        until(lambda: saving.done() or any(root.rglob("*.arrow")), "the save to begin")
        kill_primary(ps, 0)
        saved = saving.result(DEADLINE_S)
        client.wait(client.push("t", keys[:9], np.ones((9, 1), np.float32)))
        later = ps.checkpoint()
    for path, first in ((saved, -1.0), (later, -2.0)):
        with EmbeddedParameterServer() as other:
            other.load(path)
            values = np.asarray(other.client().pull("t", keys).wait())
            assert (values[:9] == first).all()
            assert (values[9:] == -1).all()


def kill_primary_of(status: dict[str, Any]) -> None:
    os.kill(status["shards"][0]["pid"], signal.SIGKILL)


def test_a_shard_without_stand_by_or_checkpoint_says_what_was_lost() -> None:
    with RayParameterServer.create(1, name="alone") as ps:
        ps.create_table(TableConfig("t", optimizer=SGD()))
        client = ps.client()
        keys = np.arange(5, dtype=np.uint64)
        client.pull("t", keys).wait()
        kill_primary(ps, 0)
        lost = r"shard 0 is gone.*replicas = 1.*checkpoint"
        with pytest.raises(ParameterServerError, match=lost):
            client.push("t", keys, np.ones((5, 1), np.float32)).wait()
