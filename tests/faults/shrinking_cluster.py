"""Program of test_worker_groups: a cluster that loses a node, and gets another, under a gang.

Run as ``python -m tests.faults.shrinking_cluster``. It prints one line of JSON. All of the cluster
is on loopback and ends with the program.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np

# Read by Ray on import, in all processes alike: on loopback only, and nobody asks for a token.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}

import ray
from ray.cluster_utils import Cluster

from tests.faults.two_nodes import NOTICES_S, kill, until
from weiml.cluster import join_ray
from weiml.group import (
    AllReduce,
    Collective,
    GangState,
    Supervisor,
    WorkerContext,
    WorkerGroup,
    WorkerGroupConfig,
)
from weiml.ps.processes.liveness import is_running

__all__ = ["main"]

CONFIG = WorkerGroupConfig(
    num_workers=3,
    min_workers=1,
    placement="SPREAD",
    max_restarts=3,
    restart_wait_s=0.0,
    collective_timeout_s=300.0,
    start_timeout_s=120.0,
)


def main() -> None:
    """Run a gang on two nodes, kill one of them, add one again; say what came of it."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": False,
            "_system_config": NOTICES_S,
        },
    )
    try:
        join_ray(cluster.address)
        other = cluster.add_node(num_cpus=1)
        until(lambda: ray.cluster_resources().get("CPU", 0) == 3, "the second node")
        with Supervisor(CONFIG) as supervisor:
            came = outcome(cluster, other, supervisor)
        print(json.dumps(came), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


def outcome(cluster: Cluster, other: Any, supervisor: Supervisor) -> dict[str, Any]:
    """Lose the node under a running collective, and grow again."""
    sizes: list[int] = []
    nodes: list[int] = []
    sums: list[float] = []
    pids: list[int] = []

    def look(group: WorkerGroup) -> None:
        sizes.append(group.num_workers)
        nodes.append(len({worker.node for worker in group.workers}))
        sums.append(float(group.run(total)[0]))
        pids.extend(worker.pid for worker in group.workers)

    def attempt(group: WorkerGroup) -> None:
        look(group)
        if len(sizes) == 1:
            [raylet] = other.all_processes["raylet"]
            kill([raylet.process.pid])  # what ran on the node ends with it
            group.run(forever)

    supervisor.run(attempt)
    restarts = supervisor.restarts
    cluster.add_node(num_cpus=1)
    until(lambda: supervisor.room_to_grow() == 1, "room to grow")
    supervisor.resize()
    assert supervisor.state is GangState.RUNNING
    look(supervisor.group)
    supervisor.close()
    left = [pid for pid in pids if is_running(pid)]
    return {
        "sizes": sizes,
        "nodes": nodes,
        "restarts": restarts,
        "sums": sums,
        "left": len(left),
    }


def total(context: WorkerContext) -> Collective:
    """Return the sum of all ranks."""
    found = yield AllReduce(np.array([context.rank], np.float64), "sum")
    return found[0]


def forever(context: WorkerContext) -> Collective:
    """Reduce until the end."""
    while True:
        yield np.zeros(1000, np.float32)
        time.sleep(0.001)


if __name__ == "__main__":
    main()
