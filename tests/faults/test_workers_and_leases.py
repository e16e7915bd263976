"""Workers that die, creators that die, nodes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import SGD, ParameterServer, RayParameterServer, TableConfig, list_groups

KEYS = np.arange(5, dtype=np.uint64)
ONES = np.ones((5, 1), np.float32)
DEADLINE_S = 60.0


def half_a_step(server: ParameterServer) -> None:
    """As worker 1: push, then die without a tick."""
    client = server.client(1)
    client.wait(client.push("t", KEYS, ONES))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_does_not_block_the_others(ray_session: None) -> None:
    import ray

    with RayParameterServer.create(2, 2, 0, "dead-worker", wait_timeout_s=DEADLINE_S) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        first = ps.client(0)
        task = ray.remote(half_a_step).options(num_cpus=0, max_retries=0).remote(ps)
        with pytest.raises(ray.exceptions.RayError):
            ray.get(task, timeout=DEADLINE_S)
        first.push("t", KEYS, ONES)
        first.tick()
        values = first.pull("t", KEYS).wait()
        assert (np.asarray(values) == -1).all()  # the half step of the other is not in it
        assert ps.status()["live"] == [0]
        assert ps.status()["dropped_pushes"] > 0
        again = ps.client(1)  # a new process may take its place
        again.push("t", KEYS, ONES)
        again.tick()
        first.tick()
        assert (np.asarray(first.pull("t", KEYS).wait()) == -2).all()
        first.finish()
        again.finish()


def test_a_worker_declared_dead_cannot_come_back_by_accident(ray_session: None) -> None:
    with RayParameterServer.create(1, 2, 0, "zombie") as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        zombie, other = ps.client(1), ps.client(0)
        ps.declare_dead(1)
        with pytest.raises(ParameterServerError, match="declared dead or has another client"):
            zombie.push("t", KEYS, ONES).wait()
        other.tick()
        assert (np.asarray(other.pull("t", KEYS).wait()) == 0).all()
        other.finish()


class Stepper:
    """Worker 1, in a process of its own."""

    def __init__(self, server: ParameterServer) -> None:
        self._client = server.client(1)

    def step(self) -> int:
        self._client.wait(self._client.push("t", KEYS, ONES))
        self._client.wait(self._client.tick())
        return os.getpid()


@pytest.mark.slow
def test_a_worker_that_stands_still_is_declared_dead_and_cannot_go_on(ray_session: None) -> None:
    import ray

    with RayParameterServer.create(
        1, 2, 0, "stopped-worker", worker_timeout_s=6.0, wait_timeout_s=DEADLINE_S
    ) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        first = ps.client(0)
        other = ray.remote(Stepper).options(num_cpus=0).remote(ps)
        stepped = other.step.remote()
        first.push("t", KEYS, ONES)
        first.tick()
        pid = ray.get(stepped, timeout=DEADLINE_S)
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                first.push("t", KEYS, ONES)
                first.tick()
            values = np.asarray(first.pull("t", KEYS).wait())  # waits for the other, then does not
            assert (values == -5).all()
            assert ps.status()["live"] == [0]
        finally:
            os.kill(pid, signal.SIGCONT)
        with pytest.raises(ParameterServerError, match="declared dead or has another client"):
            ray.get(other.step.remote(), timeout=DEADLINE_S)
        first.push("t", KEYS, ONES)
        first.tick()
        assert (np.asarray(first.pull("t", KEYS).wait()) == -6).all()
        first.finish()
        ray.kill(other)


CREATOR = """
import sys, time
from weiml.cluster import join_ray
from weiml.ps import RayParameterServer, SGD, TableConfig
import numpy as np
join_ray(sys.argv[1])
ps = RayParameterServer.create(1, name="orphan", lease_s=2.0, checkpoint_root=sys.argv[2])
ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
ps.client().push("t", np.arange(5, dtype=np.uint64), np.ones((5, 1), np.float32)).wait()
print("ready", flush=True)
time.sleep(600)
"""


def test_a_group_whose_creator_was_killed_saves_and_ends_by_itself(
    ray_session: None, root: Path, tmp_path: Path
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    with subprocess.Popen(
        [sys.executable, "-c", CREATOR, address, str(tmp_path / "checkpoints")],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert any(line.strip() == "ready" for line in process.stdout)
            assert "orphan" in list_groups()
            pids = [pid for pid, _ in RayParameterServer.connect("orphan").status()["processes"]]
        finally:
            process.kill()
    deadline = time.monotonic() + DEADLINE_S
    while "orphan" in list_groups():
        assert time.monotonic() < deadline, "the group did not end"
        time.sleep(0.1)
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "its shards did not end"
        time.sleep(0.1)
    [saved] = (tmp_path / "checkpoints").iterdir()
    with RayParameterServer.create(2, name="heir") as ps:
        ps.load(str(saved))
        values = np.asarray(ps.client().pull("t", KEYS).wait())
        assert (values == -1).all()
