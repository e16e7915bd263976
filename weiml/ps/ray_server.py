"""The parameter server as a named group of Ray actors that any process of the cluster can reach."""

from __future__ import annotations

from typing import Any

import ray

from weiml.errors import ClusterError
from weiml.ps.actors import NAMESPACE, coordinator_name
from weiml.ps.base import GroupConfig
from weiml.ps.ray_transport import RayTransport, absolute, end_group
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
    def connect(cls, name: str = "weiml-ps") -> RayParameterServer:
        """Return a server object for the group `name`, which another process started.

        Raises:
            ClusterError: Ray is not running here.
            ParameterServerError: there is no such group.
        """
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


def list_groups() -> list[str]:
    """Return the names of the groups that run in the Ray cluster of this process, sorted.

    Raises:
        ClusterError: Ray is not running here.
    """
    if not ray.is_initialized():
        raise ClusterError("Ray is not running in this process; call ray.init() first")
    suffix = coordinator_name("")
    return sorted(
        actor["name"].removesuffix(suffix)
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == NAMESPACE and actor["name"].endswith(suffix)
    )
