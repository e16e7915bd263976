"""Connecting a command to Ray; a cluster that ran before is never stopped."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Annotated

import typer

from weiml.errors import ClusterError

__all__ = ["AddressOption", "connected", "ray_for"]

_REACH_S = 5.0  # a head that is up answers a TCP connection at once; Ray itself tries for long

AddressOption = Annotated[
    str,
    typer.Option(
        envvar="RAY_ADDRESS", help="The Ray cluster: HOST:PORT, or auto for one on this machine."
    ),
]


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a client of the Ray cluster at `address` for a while.

    Raises:
        ClusterError: there is none.
    """
    import ray

    if ray.is_initialized():  # a program that calls the command line from within
        yield
        return
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def ray_for(transport: str) -> Iterator[None]:
    """Give ``"ray"`` a cluster: the one at ``RAY_ADDRESS``, or a local one for as long as needed.

    Raises:
        ClusterError: the one at ``RAY_ADDRESS`` cannot be reached.
    """
    if transport != "ray":
        yield
        return
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    if ray.is_initialized():
        yield
    elif address and address != "local":
        with connected(address):
            yield
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
        )
        try:
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" is Ray's to resolve
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"no Ray cluster at {address!r} ({error}); start one with `ray start --head`, "
        "or give its --address"
    )
