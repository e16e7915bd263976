"""How the commands reach a group: by its name, in a Ray cluster that runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from weiml.cluster import ray_running

if TYPE_CHECKING:
    from weiml.ps import RayParameterServer

__all__ = ["AddressOption", "NameArgument", "connected"]

AddressOption = Annotated[
    str,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="The Ray cluster: HOST:PORT, or auto for one on this machine.",
    ),
]
NameArgument = Annotated[str, typer.Argument(help="The group's name.")]


@contextlib.contextmanager
def connected(name: str, address: str) -> Iterator[RayParameterServer]:
    """Give the group `name`; it goes on when the connection ends.

    Raises:
        ClusterError: there is no such cluster.
        ParameterServerError: there is no such group.
    """
    # What several shards refuse is one error to the user; Ray would log the others.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    with ray_running(address):
        from weiml.ps import RayParameterServer

        with RayParameterServer.connect(name) as server:
            yield server
