"""Statuses of a group as `ParameterServer.status` gives them, without a group."""

from __future__ import annotations

from typing import Any

import numpy as np

from weiml.ps import FTRL, SGD, EmbeddedParameterServer, TableConfig
from weiml.ps.metrics.exporter import ShardMetrics

GROUP = {
    "state": "running",
    "replicas": 2,
    "failovers": 0,
    "restores": 0,
    "degraded": [],
    "lost": {},
    "checkpoint": None,
    "error": None,
}


class Group:
    """An embedded group that is counted like one of processes."""

    def __init__(self, num_shards: int = 2, num_workers: int = 2) -> None:
        self.ps = EmbeddedParameterServer(num_shards, num_workers, staleness=8, name="feed")
        self.metrics = [ShardMetrics() for _ in range(num_shards)]
        for index, metrics in enumerate(self.metrics):
            self.ps.shard(index).observe = metrics.see
        self.ps.create_table(TableConfig("wide", optimizer=FTRL()))
        self.ps.create_table(TableConfig("dense", optimizer=SGD(), rows=50))
        self.clients = [self.ps.client(worker) for worker in range(num_workers)]
        self.changes: dict[str, Any] = {}

    def work(self, worker: int = 0) -> None:
        """Do one step of a worker's."""
        client, keys = self.clients[worker], np.arange(100, dtype=np.uint64)
        client.pull("wide", keys).wait()
        client.push("wide", keys, np.ones((100, 1), np.float32)).wait()
        client.tick()
        for metrics in self.metrics:
            metrics.pulls.add(0.002)
            metrics.pushes.add(0.2)

    def status(self) -> dict[str, Any]:
        """Return what a group on Ray would say."""
        status = self.ps.status()
        for shard, metrics in zip(status["shards"], self.metrics, strict=True):
            tables = self.ps.shard(shard["shard"]).tables
            shard |= {"standbys": 1, "replication_lag": 3, **metrics.status(tables)}
        return status | GROUP | self.changes
