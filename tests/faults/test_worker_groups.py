"""Workers killed at random moments of their collectives: noticed, named, ended, replaced."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.errors import ClusterError
from weiml.group import LocalGroup, Supervisor, WorkerContext, WorkerGroup, WorkerGroupConfig
from weiml.group.base import Collective
from weiml.ps.processes.liveness import is_running


def make_function() -> Any:
    def descend(
        context: WorkerContext, steps: int, begun: tuple[int, Any], folder: str
    ) -> Collective:
        """Descend from where the checkpoint is; rank 0 writes one after each step."""
        from weiml.group import Start

        step, weights = begun[0], np.array(begun[1])
        target = np.random.default_rng(context.rank).standard_normal(len(weights))
        for now in range(step, steps):
            early = yield Start((weights - target)[:100])
            late = yield (weights - target)[100:]
            mean = np.concatenate([(yield early), late])
            weights -= 0.3 * mean
            if context.rank == 0:
                aside = os.path.join(folder, "aside.npz")
                np.savez(aside, step=now + 1, weights=weights)
                os.replace(aside, os.path.join(folder, "newest.npz"))
        return weights

    return descend


DESCEND = make_function()
STEPS = 4000


def newest(folder: Path) -> tuple[int, np.ndarray]:
    file = folder / "newest.npz"
    if not file.exists():
        return 0, np.zeros(20_000)
    with np.load(file) as saved:
        return int(saved["step"]), saved["weights"]


class Killer(threading.Thread):
    """Kills a random worker after a random number of further steps."""

    def __init__(self, group: WorkerGroup, folder: Path, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.victim = rng.randrange(group.num_workers)
        self.pids = [worker.pid for worker in group.workers]
        self.at = 0.0
        self._folder = folder
        self._target = newest(folder)[0] + rng.randrange(1, 60)
        self._pause = rng.random() * 0.02

    def run(self) -> None:
        deadline = time.monotonic() + 120
        while newest(self._folder)[0] < self._target and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(self._pause)  # anywhere within a step
        self.at = time.monotonic()
        os.kill(self.pids[self.victim], signal.SIGKILL)


@pytest.mark.parametrize(
    ("seed", "kills"), [(1, 1), *(pytest.param(s, 2, marks=pytest.mark.slow) for s in (2, 3, 4))]
)
@pytest.mark.timeout(600)
def test_killed_workers_are_named_and_replaced_and_the_result_is_that_of_no_kill(
    ray_session: None, tmp_path: Path, seed: int, kills: int
) -> None:
    rng = random.Random(seed)
    config = WorkerGroupConfig(
        num_workers=2,
        cpus_per_worker=0.5,
        max_restarts=kills,
        restart_wait_s=0.0,
        collective_timeout_s=300.0,
    )
    killers: list[Killer] = []
    noticed: list[tuple[float, str]] = []
    left: list[int] = []
    steps = [newest(tmp_path)[0]]

    def attempt(group: WorkerGroup) -> list[np.ndarray]:
        steps.append(newest(tmp_path)[0])
        if len(killers) == kills:
            goal = steps[-1] + 20
            return group.run(DESCEND, goal, newest(tmp_path), str(tmp_path))
        killer = Killer(group, tmp_path, rng)
        killers.append(killer)
        killer.start()
        try:
            return group.run(DESCEND, STEPS, newest(tmp_path), str(tmp_path))
        except ClusterError as error:
            noticed.append((time.monotonic() - killer.at, str(error)))
            left.extend(filter(is_running, killer.pids))
            raise

    with Supervisor(config) as supervisor:
        found = supervisor.run(attempt)
        last = [worker.pid for worker in supervisor.group.workers]
    assert supervisor.restarts == len(noticed) == kills
    for killer, (seconds, message) in zip(killers, noticed, strict=True):
        assert f"worker {killer.victim} of 2 died (process {killer.pids[killer.victim]}" in message
        assert seconds < config.collective_timeout_s / 4
    assert left == []
    assert steps[-1] > 0
    assert not any(map(is_running, last))
    (tmp_path / "newest.npz").unlink()
    whole = LocalGroup(2).run(DESCEND, steps[-1] + 20, newest(tmp_path), str(tmp_path))
    np.testing.assert_array_equal(found, whole)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(600)
def test_a_gang_goes_on_with_fewer_workers_when_a_node_is_gone(root: Path) -> None:
    # A cluster of its own, and so a process of its own.
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.shrinking_cluster"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    came = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert came == {
        "sizes": [3, 2, 3],
        "nodes": [2, 1, 2],
        "restarts": 1,
        "sums": [3.0, 1.0, 3.0],
        "left": 0,
    }
