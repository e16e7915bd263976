"""The engine ``ps``: steps that train against parameter servers, closed when the node ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from weiml.flow.context import NodeContext
from weiml.flow.engines.base import Engine, register_engine
from weiml.flow.engines.ray_cluster import connect_ray
from weiml.flow.graph import Node

if TYPE_CHECKING:
    from weiml.ps import RayParameterServer

__all__ = ["ParameterServerEngine", "ParameterServerSession"]


class ParameterServerSession:
    """Creates parameter servers that do not outlive the node."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._servers = ExitStack()
        self._created = 0

    def parameter_server(self, **kwargs: Any) -> RayParameterServer:
        """Create a parameter server on Ray; arguments are those of ``RayParameterServer.create``.

        Without ``name`` it is named after flow and node, so that flows can run side by side.
        """
        from weiml.ps import RayParameterServer

        self._created += 1
        kwargs.setdefault("name", f"{self._name}-{self._created}")
        return self._servers.enter_context(RayParameterServer.create(**kwargs))

    def close(self) -> None:
        """Close what was created, the last first."""
        self._servers.close()


@register_engine
class ParameterServerEngine(Engine):
    """Session: `ParameterServerSession`."""

    name = "ps"
    distributions = ("ray", "numba", "torch")

    def open(self, node: Node, context: NodeContext) -> ParameterServerSession:
        """Connect to Ray.

        Raises:
            ClusterError: Ray cannot be reached.
        """
        connect_ray(context)
        return ParameterServerSession(f"{context.flow.name}-{node.id}")

    def close(self, session: ParameterServerSession) -> None:
        """Close the node's parameter servers."""
        session.close()
