"""The flow engine ``serve``: endpoints that live as long as a node."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from weiml.config import to_mapping
from weiml.flow import Engine, Node, NodeContext, connect_ray, register_engine
from weiml.serving.app import Endpoint, deploy
from weiml.serving.config import ServingConfig

__all__ = ["ServeEngine", "ServingSession", "free_port"]


class ServingSession:
    """Brings endpoints up for a node's steps; steps that ask for the same one share it."""

    def __init__(self) -> None:
        self._endpoints: list[Endpoint] = []
        self._stack = ExitStack()

    def endpoint(self, config: ServingConfig, *, any_port: bool = False) -> Endpoint:
        """Return a live endpoint, its replicas at their snapshots.

        Args:
            config: what to serve.
            any_port: take a free port instead of the configured one.

        Raises:
            ClusterError: the port is taken, or the replicas do not come up.
        """
        for endpoint in self._endpoints:
            if _same(endpoint.config, config, any_port):
                if endpoint.status()["sequence"]:
                    endpoint.reset()
                return endpoint
        self.close()  # one Serve has one port and one root: the next endpoint takes its place
        if any_port:
            config = ServingConfig(**{**vars(config), "port": free_port(config.host)})
        endpoint = self._stack.enter_context(deploy(config))
        self._endpoints.append(endpoint)
        return endpoint

    def close(self) -> None:
        """Shut the endpoints down."""
        self._endpoints.clear()
        self._stack.close()


@register_engine
class ServeEngine(Engine):
    """Session: `ServingSession`."""

    name = "serve"
    distributions = ("ray", "torch", "mlflow")

    def open(self, node: Node, context: NodeContext) -> ServingSession:
        """Connect to Ray; endpoints come up when a step asks for one.

        Raises:
            ClusterError: Ray cannot be reached.
        """
        connect_ray(context)
        return ServingSession()

    def close(self, session: ServingSession) -> None:
        """Shut down what the steps brought up."""
        session.close()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _same(have: ServingConfig, want: ServingConfig, any_port: bool) -> bool:
    left, right = to_mapping(have), to_mapping(want)
    if any_port:
        del left["port"], right["port"]
    return left == right
