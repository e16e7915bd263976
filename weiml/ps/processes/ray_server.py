"""The parameter server as a named group of Ray actors that any process of the cluster can reach."""

from __future__ import annotations

import os
from typing import Any

import ray

from weiml.cluster import join_ray
from weiml.ps.base import GroupConfig
from weiml.ps.processes.ray_transport import RayTransport, absolute, end_group, list_groups
from weiml.ps.server import ShardedParameterServer

__all__ = ["RayParameterServer", "list_groups"]


class RayParameterServer(ShardedParameterServer):
    """A group of shards, each a process. Make one with `create` or `connect`.

    The object can be sent to Ray tasks and actors: there it is connected to the same group. The
    group lives until its creator closes it or ends; closing a connected object ends nothing.
    """

    _transport: RayTransport

    @classmethod
    def create(
        cls,
        num_shards: int = 2,
        num_workers: int = 1,
        staleness: int | None = 0,
        name: str = "weiml-ps",
        **fields: Any,
    ) -> RayParameterServer:
        """Start a group; it is complete when this returns, or there is nothing.

        Args:
            num_shards: server processes.
            num_workers: workers in the clock.
            staleness: 0 BSP, s SSP, None ASP.
            name: what `connect` finds it by.
            **fields: the other fields of `GroupConfig`: ``replicas``, ``checkpoint_root``, ….

        Raises:
            ClusterError: Ray is not running here.
            ParameterServerError: the name is taken, or a shard did not come up in time.
        """
        if fields.get("checkpoint_root") is not None:
            fields["checkpoint_root"] = absolute(fields["checkpoint_root"])
        config = GroupConfig(
            num_shards=num_shards,
            num_workers=num_workers,
            staleness=staleness,
            name=name,
            **fields,
        )
        return cls(RayTransport.start(config))

    @classmethod
    def connect(cls, name: str = "weiml-ps", address: str | None = None) -> RayParameterServer:
        """Return a server object for the group `name`, which another process started.

        Args:
            name: the group's.
            address: the Ray cluster, HOST:PORT or ``auto``, to join where this process is in none
                yet; by default that at ``RAY_ADDRESS``, or the one of this machine.

        Raises:
            ClusterError: the cluster cannot be reached.
            ParameterServerError: there is no such group.
        """
        if not ray.is_initialized():
            join_ray(address or os.environ.get("RAY_ADDRESS") or "auto")
        return cls(RayTransport.find(name))

    @classmethod
    def stop(cls, name: str) -> None:
        """Let a group save what its `checkpoint_root` asks for and end, whoever made it.

        Raises:
            ParameterServerError: there is no such group, or a process is still there after
                stop_timeout_s.
        """
        transport = RayTransport.find(name)
        end_group(transport.coordinator, transport.config)
        transport.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return RayParameterServer.connect, (self.config.name,)
