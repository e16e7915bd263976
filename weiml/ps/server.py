"""A sharded parameter server over any transport: what shards are asked, how answers add up."""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.base import Client, ParameterServer
from weiml.ps.client.sharded import ShardedClient
from weiml.ps.delta import Cut
from weiml.ps.tables.sparse import TableConfig, check_name
from weiml.ps.transport import Transport
from weiml.ps.wire import WireConfig

__all__ = ["ShardedParameterServer"]

_COUNTS = (
    "rows",
    "bytes",
    "pulls",
    "pushes",
    "keys",
    "duplicates",
    "lost_writes",
    "dropped_pushes",
    "held",
    "sequence",
)


class ShardedParameterServer(ParameterServer):
    """See `ParameterServer`. Safe to use from several threads on Ray, from one when embedded."""

    def __init__(self, transport: Transport) -> None:
        self.config = transport.config
        self._transport = transport

    def create_table(self, config: TableConfig) -> None:
        """Create a table; see `ParameterServer.create_table`."""
        self._transport.ask_settled("create_table", config)

    def create_vector(self, name: str, values: np.ndarray) -> None:
        """Create a vector; see `ParameterServer.create_vector`."""
        check_name("vector", name)
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 1:
            raise ParameterServerError(
                f"vector {name!r}: values must be a float32 array of one dimension, "
                f"got {getattr(values, 'dtype', type(values).__name__)} "
                f"of shape {getattr(values, 'shape', '?')}"
            )
        partition = None
        while partition is None or partition.version != self._transport.newest().version:
            partition = self._transport.newest()
            for shard in range(partition.num_shards):
                part = values[partition.vector_index(len(values), shard)]
                self._transport.ask_one(shard, "create_vector", name, len(values), part)

    def drop_vector(self, name: str) -> None:
        """Remove a vector; see `ParameterServer.drop_vector`."""
        self._transport.ask_settled("drop_vector", name)

    def client(self, worker: int | None = None, *, wire: WireConfig | None = None) -> Client:
        """Return a client; see `ParameterServer.client`."""
        return ShardedClient(self._transport, worker, wire)

    def expire(self, table: str, *, step: int = 0, now_s: float | None = None) -> int:
        """Remove rows that are given up; see `ParameterServer.expire`."""
        now = time.time() if now_s is None else now_s
        request = uuid.uuid4().hex  # asked again after a loss, it must not decay rows twice
        return sum(self._transport.ask_settled("expire", table, step, now, request)[1])

    def declare_dead(self, worker: int) -> None:
        """Take a worker out of the clock; see `ParameterServer.declare_dead`."""
        self._transport.ask_settled("declare_dead", worker)

    def rescale(self, num_shards: int) -> None:
        """Change the number of shards; see `ParameterServer.rescale`."""
        self._transport.rescale(num_shards)

    def status(self) -> dict[str, Any]:
        """Return counts; see `ParameterServer.status`."""
        shards = self._transport.statuses()
        first = shards[0]
        return {
            "name": self.config.name,
            "transport": self._transport.name,
            "num_shards": len(shards),
            "num_workers": self.config.num_workers,
            "staleness": self.config.staleness,
            **{count: sum(shard[count] for shard in shards) for count in _COUNTS},
            "cut": [shard["sequence"] for shard in shards],
            "clocks": {w: min(shard["clocks"][w] for shard in shards) for w in first["clocks"]},
            "global_step": first["global_step"],
            "live": first["live"],
            "tables": {
                n: sum(shard["tables"].get(n, 0) for shard in shards) for n in first["tables"]
            },
            "vectors": first["vectors"],
            "shards": shards,
            **self._transport.group_status(),
        }

    @property
    def cut(self) -> Cut:
        """How far the shards are."""
        version = self._transport.partition.version
        return Cut(tuple(self._transport.ask("mark")), version)

    def checkpoint(self, *, full: bool = False) -> str:
        """Take the next checkpoint; see `ParameterServer.checkpoint`."""
        return self._transport.checkpoint(full)

    def save(self, path: str) -> None:
        """Write a checkpoint; see `ParameterServer.save`."""
        self._transport.save(path)

    def load(self, path: str) -> None:
        """Load a checkpoint; see `ParameterServer.load`. Make clients anew afterwards."""
        self._transport.load(path)

    def close(self) -> None:
        """End the group; see `ParameterServer.close`."""
        self._transport.close()
