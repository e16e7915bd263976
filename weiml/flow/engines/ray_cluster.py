"""Connection of a flow's engines to Ray: the one that runs, or a local one for the run.

Not an engine itself. A Ray that was there before is never shut down.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from weiml.errors import ClusterError
from weiml.flow.context import NodeContext
from weiml.flow.steps import is_main

__all__ = ["connect_ray"]

_REACH_S = 5.0  # a head that is up answers a TCP connection at once; Ray itself would try for long


def connect_ray(context: NodeContext) -> None:
    """Connect this process to Ray if it is not yet, and let workers unpickle the flow's steps.

    In order: the Ray that is already initialised; the one at ``RAY_ADDRESS``; a new local one on
    127.0.0.1, which is shut down when the run ends.

    Raises:
        ClusterError: ``RAY_ADDRESS`` cannot be reached, or a local Ray does not start.
    """
    import ray

    if not ray.is_initialized():
        with _term_handler_kept():
            address = os.environ.get("RAY_ADDRESS", "")
            if address and address != "local":
                _connect(address)
                context.scope.at_exit(ray.shutdown)
            else:
                context.progress("starting Ray")
                _start(context)
    _pickle_by_value(context.flow.steps)


def _connect(address: str) -> None:
    import ray

    advice = "start it with `ray start --head`, or unset RAY_ADDRESS to use a local Ray"
    _check_reachable(address, advice)
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray at RAY_ADDRESS={address!r} ({error}); {advice}") from error


def _check_reachable(address: str, advice: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and names of other kinds are Ray's to resolve
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise ClusterError(f"no Ray at RAY_ADDRESS={address!r} ({error}); {advice}") from None


def _start(context: NodeContext) -> None:
    import ray

    try:
        with _loopback_only():
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
    except Exception as error:
        ray.shutdown()
        raise ClusterError(
            f"a local Ray does not start ({type(error).__name__}: {error}); look for a full "
            "/dev/shm or /tmp, or start one with `ray start --head` and set RAY_ADDRESS"
        ) from error
    context.scope.at_exit(ray.shutdown)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let a Ray that is started meanwhile listen on 127.0.0.1 only.

    Ray replaces a loopback address that it is given by the machine's own, and has servers on all
    interfaces. What it calls clusters off on macOS and Windows keeps all of it on loopback; its
    processes learn of it from the environment, this one from a constant read long ago.
    """
    from ray._private import ray_constants

    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[name]
        else:
            os.environ[name] = before[0]


@contextmanager
def _term_handler_kept() -> Iterator[None]:
    """Put back the SIGTERM handler that ``ray.init`` replaces by one that exits at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _pickle_by_value(modules: tuple[str, ...]) -> None:
    """Send functions of step modules to workers as code: a worker may not be able to import them.

    weiml itself is importable everywhere, and ``__main__`` goes by value anyway.
    """
    from ray import cloudpickle

    for name in modules:
        outside = name.partition(".")[0] != "weiml"
        if outside and not is_main(name) and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
