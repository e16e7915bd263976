"""Program of test_raylet: a cluster of two nodes, of which one dies while both are needed.

Run as ``python -m tests.faults.two_nodes``. It prints one line of JSON, what came of
it. All of the cluster is on loopback and ends with the program.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Read by Ray on import, in all processes alike: on loopback only, and nobody asks for a token.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}

import ray
from ray.cluster_utils import Cluster

from tests.ps import training
from weiml.cluster import join_ray
from weiml.ps import RayParameterServer

__all__ = ["main"]

TICKS = 200
DEADLINE_S = 90.0
# A node that is gone is known to be gone within seconds.
NOTICES_S: dict[str, int] = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 3,
}


def main() -> None:
    """Train, kill a node, say whether the numbers are those of a run without."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"include_dashboard": False, "_system_config": NOTICES_S},
    )
    try:
        join_ray(cluster.address)
        with RayParameterServer.create(2, 2, 0, "two-nodes", replicas=2) as ps:
            training.create(ps)
            other = cluster.add_node(num_cpus=1)
            move_primaries(ps, other.node_id)
            print(json.dumps(outcome(ps, other)), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


def move_primaries(ps: RayParameterServer, node: str) -> None:
    """Let the processes that speak for the shards be on a new node, their stand-bys on the old."""

    def moved() -> bool:
        """Ray may not place anything on a node that is so new: try again those that stayed."""
        if not whole(ps):
            return False
        speak = primaries(ps)
        stayed = [pid for pid, on in ps.status()["processes"] if pid not in speak and on != node]
        kill(stayed)
        until(lambda: not {pid for pid, _ in ps.status()["processes"]} & {*stayed}, "their loss")
        return not stayed

    until(moved, "stand-bys on the new node")
    kill(primaries(ps))
    until(lambda: whole(ps) and ps.status()["failovers"] == 2, "stand-bys to take over")


def outcome(ps: RayParameterServer, other: Any) -> dict[str, Any]:
    """Train, and let a node die meanwhile; return what was there before and is afterwards."""
    nodes = dict(ps.status()["processes"])
    before = [nodes[pid] == other.node_id for pid in primaries(ps)]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(train, ps, worker) for worker in range(2)]
        until(lambda: min(ps.status()["clocks"].values()) > TICKS // 5, "the training to be on")
        [raylet] = other.all_processes["raylet"]
        kill([raylet.process.pid])  # what ran on the node ends with it
        for future in running:
            future.result(2 * DEADLINE_S)
    until(lambda: whole(ps), "stand-bys on the node that is left")
    status = ps.status()
    ours, serial = training.content(ps), training.serial(2, TICKS)
    return {
        "primaries_were_there": before,
        "processes": len(status["processes"]),
        "processes_there": count(ps, other.node_id),
        "failovers": status["failovers"],
        "lost_writes": status["lost_writes"],
        "equal": all(map(np.array_equal, ours, serial)) and all(a.any() for a in ours),
    }


def primaries(ps: RayParameterServer) -> list[int]:
    """Return the pid of the process that speaks for each shard."""
    return [shard["pid"] for shard in ps.status()["shards"]]


def count(ps: RayParameterServer, node: str) -> int:
    """Return how many of the group's processes are on a node."""
    return sum(there == node for _, there in ps.status()["processes"])


def whole(ps: RayParameterServer) -> bool:
    """Whether no shard lacks a stand-by."""
    return not ps.status()["degraded"]


def kill(pids: Iterable[int]) -> None:
    """Kill processes."""
    for pid in list(pids):
        os.kill(pid, signal.SIGKILL)


def train(ps: RayParameterServer, worker: int) -> None:
    """Take all steps of a worker."""
    client = ps.client(worker)
    for tick in range(TICKS):
        training.step(client, tick)
    client.finish()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE_S} s for {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
