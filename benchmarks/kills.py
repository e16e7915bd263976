"""Training under full load while shards' processes are killed, for benchmarks.failover.

Workers are processes. What they do says of itself whether all of it acted, once and in order:
`trained` gives bits that any other order would change, `counting` gives counts.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import ray

from weiml.ps import (
    FTRL,
    SGD,
    Client,
    EmbeddedParameterServer,
    ParameterServer,
    RayParameterServer,
    TableConfig,
    unique_keys,
)

SHARDS = 2
WORKERS = 2
TABLE_KEYS = 200_000
BATCH_KEYS = 4096
BATCHES = 64
"""The batches of a worker come again after so many steps."""
VECTOR = 1000
RULE = FTRL(alpha=0.1, l1=0.001)
OUTSTANDING = 8
LONGEST_PAUSE_S = 0.3
DEADLINE_S = 120.0

Steps: TypeAlias = Sequence[int | None]
"""How many each worker takes; None: until it is told to stop."""


@dataclass
class Worked:
    """What one worker did."""

    ends: list[float] = field(default_factory=list)
    """When each step was done, in seconds of the machine's monotonic clock."""
    counts: dict[str, int] = field(default_factory=dict)
    """See `Client.counts`."""

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.ends)

    def rate(self) -> float:
        """Return steps/s without the first tenth, which loads code."""
        ends = self.ends[self.steps // 10 :]
        return (len(ends) - 1) / (ends[-1] - ends[0])

    def stall_s(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """Return by how much the longest gap between steps exceeds the usual one.

        Of the gaps that overlap the time from `begin` to `end`, the first tenth left out.
        """
        ends = np.array(self.ends[self.steps // 10 :])
        gaps = np.diff(ends)
        there = (ends[1:] > begin) & (ends[:-1] < end)
        return float(gaps[there].max() - np.median(gaps)) if there.any() else 0.0


# What workers do


def batches(worker: int) -> list[np.ndarray]:
    """Return the keys of a worker's batches, distinct within each; many are both workers'."""
    rng = np.random.default_rng(worker)
    drawn = [rng.integers(0, TABLE_KEYS, BATCH_KEYS).astype(np.uint64) for _ in range(BATCHES)]
    return [unique_keys(keys)[0] for keys in drawn]


def train(server: ParameterServer, worker: int, more: Callable[[int], bool]) -> Worked:
    """Train as one worker."""
    trainee = Trainee(server, worker)
    done = Worked()
    while more(done.steps):
        trainee.step()
        done.ends.append(time.monotonic())
    trainee.client.finish()
    done.counts = trainee.client.counts
    return done


class Trainee:
    """A worker whose pushes depend on what was pulled, so that any other order shows."""

    def __init__(self, server: ParameterServer, worker: int) -> None:
        self.client = server.client(worker)
        rng = np.random.default_rng(worker)
        self._noise = rng.normal(size=(BATCH_KEYS, 1)).astype(np.float32)
        self._turns = itertools.cycle(batches(worker))

    def step(self) -> None:
        """Take one step and tick."""
        client, keys = self.client, next(self._turns)
        pulled = client.pull("wide", keys, "state"), client.pull_vector("dense")
        state, vector = (np.asarray(client.wait(ticket)) for ticket in pulled)
        grads = np.tanh(RULE.weights(state) + self._noise[: len(keys)]).astype(np.float32)
        client.push("wide", keys, RULE.update(state, grads) - state, "differences")
        client.push_vector("dense", (np.cos(vector) * np.float32(0.1)).astype(np.float32))
        client.tick()


def count(server: ParameterServer, worker: int, more: Callable[[int], bool]) -> Worked:
    """Push ones by SGD: a key's value is how many of its pushes acted. Steps are acknowledged."""
    client = server.client(worker)
    done = Worked()
    ones = np.ones((BATCH_KEYS, 1), np.float32)
    turns = [counted(worker, turn) for turn in range(BATCHES)]
    under_way: list[Any] = []
    for pushes in itertools.count():
        if not more(pushes):
            break
        under_way.append(client.push("counts", turns[pushes % BATCHES], ones))
        if len(under_way) == OUTSTANDING:
            _acknowledged(client, under_way, done)
    while under_way:
        _acknowledged(client, under_way, done)
    done.counts = client.counts
    client.finish()
    return done


def _acknowledged(client: Client, under_way: list[Any], done: Worked) -> None:
    client.wait(under_way.pop(0))
    done.ends.append(time.monotonic())


def counted(worker: int, turn: int) -> np.ndarray:
    """Return the keys that only this worker pushes to, every BATCHES steps: uint64."""
    first = (worker * BATCHES + turn) * BATCH_KEYS
    return np.arange(first, first + BATCH_KEYS, dtype=np.uint64)


def work(server: ParameterServer, worker: int, kind: str, steps: int | None, stop: Path) -> Worked:
    """Run in a process of its own: a number of steps, or until there is a file."""
    job = {"train": train, "count": count}[kind]
    if steps is None:
        return job(server, worker, lambda _: not stop.exists())
    return job(server, worker, lambda done: done < steps)


# What is done to them


@dataclass
class Struck:
    """What a series of kills met."""

    at: list[float] = field(default_factory=list)
    whole_after_s: list[float] = field(default_factory=list)


def start_workers(server: ParameterServer, kind: str, steps: Steps, stop: Path) -> Any:
    """Start all workers, each in a process."""
    task = ray.remote(work).options(num_cpus=0, max_retries=0)
    return [task.remote(server, worker, kind, n, stop) for worker, n in enumerate(steps)]


def kill_again_and_again(
    server: RayParameterServer, kills: int, seed: int, running: list[Any]
) -> Struck:
    """Kill the process that speaks for a shard, at moments and of shards drawn by `seed`."""
    rng = np.random.default_rng(seed)
    struck = Struck()
    for _ in range(kills):
        time.sleep(rng.uniform(0, LONGEST_PAUSE_S))
        pid = server.status()["shards"][int(rng.integers(SHARDS))]["pid"]
        os.kill(pid, signal.SIGKILL)
        struck.at.append(time.monotonic())
        failed, _ = ray.wait(running, num_returns=1, timeout=0)
        if failed:
            ray.get(failed)
            raise SystemExit("error: a worker came to its end too early")
        _until(lambda: _is_whole(server, len(struck.at)), "the group to be whole again")
        struck.whole_after_s.append(time.monotonic() - struck.at[-1])
    return struck


def _is_whole(server: RayParameterServer, kills: int) -> bool:
    status = server.status()
    return not status["degraded"] and status["failovers"] + status["restores"] >= kills


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"error: waited {DEADLINE_S:g} s for {what}")
        time.sleep(0.05)


def _under_way(server: RayParameterServer) -> None:
    """Wait until every worker's code is loaded and it is at work."""
    _until(lambda: server.status()["pushes"] > 200, "the workers to be at work")


@dataclass(frozen=True)
class Outcome:
    """A run, its workers, and what the tables held afterwards."""

    workers: list[Worked]
    content: list[np.ndarray]
    status: dict[str, Any]
    struck: Struck

    @property
    def rate(self) -> float:
        """Steps/s of all workers."""
        return sum(worked.rate() for worked in self.workers)

    def stall_s(self) -> float:
        """Return the longest time that a worker stood still beyond its usual step."""
        return max(worked.stall_s() for worked in self.workers)

    def total(self, count: str) -> int:
        """Return the sum of one of the clients' counts."""
        return sum(worked.counts[count] for worked in self.workers)

    def told(self) -> str:
        """Return how long workers stood still, and the group was not whole."""
        ends = [*self.struck.at[1:], float("inf")]
        stalls = [
            max(worked.stall_s(begin, end) for worked in self.workers)
            for begin, end in zip(self.struck.at, ends, strict=True)
        ]
        return (
            f"longest stall {self.stall_s():.2f} s, after a kill in the median "
            f"{median(stalls):.2f} s; whole again after {median(self.struck.whole_after_s):.1f} s "
            f"in the median, at most {max(self.struck.whole_after_s):.1f} s; "
            f"{self.total('retries')} parts of requests sent again"
        )


def trained(replicas: int, *, kills: int = 0, seed: int = 0, steps: Steps | None = None) -> Outcome:
    """Train under BSP with `kills`, or a number of steps of each worker."""
    name = f"failover-{time.time_ns()}"
    with (
        tempfile.TemporaryDirectory() as folder,
        RayParameterServer.create(SHARDS, WORKERS, 0, name, replicas=replicas) as server,
    ):
        create(server)
        stop = Path(folder) / "stop"
        running = start_workers(server, "train", steps or [None] * WORKERS, stop)
        struck = Struck()
        if steps is None:
            _under_way(server)
            struck = kill_again_and_again(server, kills, seed, running)
            stop.touch()
        workers = ray.get(running, timeout=600)
        return Outcome(workers, content(server), server.status(), struck)


def create(server: ParameterServer) -> None:
    """Create what is trained."""
    server.create_table(TableConfig("wide", optimizer=RULE))
    server.create_vector("dense", np.zeros(VECTOR, np.float32))


def content(server: ParameterServer) -> list[np.ndarray]:
    """Return all that is trained, to be compared bit by bit."""
    client = server.client()
    keys = np.arange(TABLE_KEYS, dtype=np.uint64)
    rows = client.pull("wide", keys, "state"), client.pull_vector("dense")
    return [np.asarray(client.wait(ticket)) for ticket in rows]


def is_exact(ours: Outcome) -> bool:
    """Whether as many steps give the same bits, one worker's after the other's in one process."""
    with EmbeddedParameterServer(1, WORKERS) as server:
        create(server)
        trainees = [Trainee(server, worker) for worker in range(WORKERS)]
        for tick in range(max(worked.steps for worked in ours.workers)):
            for trainee, worked in zip(trainees, ours.workers, strict=True):
                if tick < worked.steps:
                    trainee.step()
                elif tick == worked.steps:
                    trainee.client.finish()
        for trainee in trainees:
            trainee.client.finish()
        serial = content(server)
    return all(map(np.array_equal, ours.content, serial)) and bool(serial[0].any())


def counting(
    replicas: int, *, kills: int = 0, seed: int = 0, steps: Steps | None = None, **fields: Any
) -> Outcome:
    """Push ones under ASP, the same way; the content is the values of all keys that get some."""
    name = f"failover-{time.time_ns()}"
    with (
        tempfile.TemporaryDirectory() as folder,
        RayParameterServer.create(
            SHARDS, WORKERS, None, name, replicas=replicas, **fields
        ) as server,
    ):
        server.create_table(TableConfig("counts", optimizer=SGD(lr=1.0)))
        stop = Path(folder) / "stop"
        running = start_workers(server, "count", steps or [None] * WORKERS, stop)
        struck = Struck()
        if steps is None:
            _under_way(server)
            if fields:
                _until(lambda: server.status()["checkpoint"] is not None, "the first checkpoint")
            struck = kill_again_and_again(server, kills, seed, running)
            stop.touch()
        workers = ray.get(running, timeout=600)
        client = server.client()
        keys = [counted(worker, turn) for worker in range(WORKERS) for turn in range(BATCHES)]
        content = [np.asarray(client.wait(client.pull("counts", some))) for some in keys]
        return Outcome(workers, content, server.status(), struck)
