"""A sharded parameter server over any transport: what shards are asked, how answers add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.base import Client, ParameterServer
from weiml.ps.checkpoint import verify_checkpoint, write_checkpoint
from weiml.ps.client import ShardedClient
from weiml.ps.delta import Cut
from weiml.ps.partition import Partition, vector_range
from weiml.ps.tables import TableConfig, check_name
from weiml.ps.transport import Transport

__all__ = ["ShardedParameterServer"]

_COUNTS = ("rows", "bytes", "pulls", "pushes", "keys", "duplicates", "sequence")


class ShardedParameterServer(ParameterServer):
    """See `ParameterServer`. Safe to use from several threads on Ray, from one when embedded."""

    def __init__(self, transport: Transport) -> None:
        self.config = transport.config
        self._transport = transport
        self._partition = Partition(self.config.num_shards, self.config.num_buckets)

    def create_table(self, config: TableConfig) -> None:
        """Create a table; see `ParameterServer.create_table`."""
        self._transport.ask("create_table", config)

    def create_vector(self, name: str, values: np.ndarray) -> None:
        """Create a vector; see `ParameterServer.create_vector`."""
        check_name("vector", name)
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 1:
            raise ParameterServerError(
                f"vector {name!r}: values must be a float32 array of one dimension, "
                f"got {getattr(values, 'dtype', type(values).__name__)} "
                f"of shape {getattr(values, 'shape', '?')}"
            )
        num_shards = self.config.num_shards
        sent = []
        for shard in range(num_shards):
            low, high = vector_range(len(values), shard, num_shards)
            arguments = (name, len(values), low, values[low:high])
            sent.append((shard, self._transport.send(shard, "create_vector", *arguments)))
        self._transport.results(sent)

    def client(self, worker: int | None = None) -> Client:
        """Return a client; see `ParameterServer.client`."""
        return ShardedClient(self._transport, self._partition, worker)

    def status(self) -> dict[str, Any]:
        """Return counts; see `ParameterServer.status`."""
        shards = self._transport.ask("status")
        first = shards[0]
        return {
            "name": self.config.name,
            "transport": self._transport.name,
            "num_shards": self.config.num_shards,
            "num_workers": self.config.num_workers,
            "staleness": self.config.staleness,
            **{count: sum(shard[count] for shard in shards) for count in _COUNTS},
            "cut": [shard["sequence"] for shard in shards],
            "clocks": {w: min(shard["clocks"][w] for shard in shards) for w in first["clocks"]},
            "live": first["live"],
            "tables": {
                n: sum(shard["tables"].get(n, 0) for shard in shards) for n in first["tables"]
            },
            "vectors": first["vectors"],
            "shards": shards,
        }

    @property
    def cut(self) -> Cut:
        """How far the shards are."""
        return Cut(tuple(shard["sequence"] for shard in self._transport.ask("status")))

    def save(self, path: str) -> None:
        """Write a checkpoint; see `ParameterServer.save`."""
        write_checkpoint(
            path, self.config.num_buckets, lambda folder: self._transport.ask("save", folder)
        )

    def load(self, path: str) -> None:
        """Load a checkpoint; see `ParameterServer.load`. Make clients anew afterwards."""
        manifest = verify_checkpoint(path)
        # In two steps, so that a shard that cannot read its part leaves the others as they were.
        self._transport.ask("load", path, manifest)
        self._transport.ask("commit")

    def close(self) -> None:
        """End the group; see `ParameterServer.close`."""
        self._transport.close()
