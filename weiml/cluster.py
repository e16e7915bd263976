"""Ray for this process: join the cluster that runs, or start a local one that only loopback sees.

A cluster that was there before is never stopped. Nothing is connected on import.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from weiml.errors import ClusterError

__all__ = ["ensure_ray", "join_ray", "keep_ray", "ray_running", "start_ray"]

log = logging.getLogger(__name__)

_REACH_S = 5.0  # a head that is up answers a TCP connection at once; Ray itself tries for minutes
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Arguments and results up to this size travel in the call itself; larger ones take the way through
# the object store, which costs about a millisecond each. A batch's keys or rows are of this order.
_SYSTEM_CONFIG = {"max_direct_call_object_size": 1 << 20}


@contextmanager
def ray_running(address: str | None = None) -> Iterator[None]:
    """Have Ray for a while, as `ensure_ray` finds it; leave it as it was."""
    ours = ensure_ray(address)
    try:
        yield
    finally:
        if ours:
            import ray

            ray.shutdown()


def keep_ray(address: str | None = None) -> None:
    """Have Ray until this process ends, as `ensure_ray` finds it; say so if it takes a start."""
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    log.warning("starting Ray, or joining the cluster at RAY_ADDRESS, until this process ends")
    ensure_ray(address)
    import ray

    atexit.register(ray.shutdown)


def ensure_ray(address: str | None = None) -> bool:
    """Connect this process to Ray if it is not yet; return whether this call did.

    In order: the Ray that is connected already; the cluster at `address`, by default that at
    ``RAY_ADDRESS``; a new local one. Whoever gets True calls ``ray.shutdown()`` in the end, which
    stops a local Ray and leaves another.

    Raises:
        ClusterError: the cluster cannot be reached, or a local Ray does not start.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return False
    target = os.environ.get("RAY_ADDRESS", "") if address is None else address
    if target and target != "local":
        join_ray(target)
    else:
        start_ray()
    return True


def join_ray(address: str) -> None:
    """Become a client of the cluster at HOST:PORT, or of the one on this machine ("auto").

    Raises:
        ClusterError: there is none, or it does not let us in.
    """
    _use_token()
    advice = "start one with `ray start --head`, or correct RAY_ADDRESS (--address)"
    if address == "auto":
        from ray._private.utils import read_ray_address

        address = read_ray_address() or ""
        if not address:
            raise ClusterError(
                "no Ray cluster has announced itself on this machine; give the HOST:PORT that the "
                f"program which runs it prints, or {advice}"
            )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    direct = bool(host) and port.isdigit()
    if direct and not _answers(host, int(port)):
        raise ClusterError(f"no Ray cluster at {address!r}: nothing answers there; {advice}")
    try:
        if direct and host in _LOOPBACK and not _answers(_own_address(), int(port)):
            with _loopback_only():
                _init(address=address)
        else:
            _init(address=address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address!r} ({error}); {advice}") from None


def start_ray(*, num_cpus: int | None = None, object_store_bytes: int | None = None) -> None:
    """Start a Ray for this process, without dashboard; its servers listen on loopback only.

    In the main thread SIGINT and SIGTERM wait until it is there, to end it whole: Ray leaves
    processes behind, or crashes, where it is interrupted meanwhile. A second signal does not wait.

    Raises:
        ClusterError: it does not start.
    """
    import ray

    try:
        with _signals_after(), _loopback_only():
            _init(
                address="local",
                num_cpus=num_cpus,
                object_store_memory=object_store_bytes,
                include_dashboard=False,
                _system_config=_SYSTEM_CONFIG,
            )
    except BaseException as error:
        ray.shutdown()
        if not isinstance(error, Exception):
            raise
        raise ClusterError(
            f"a local Ray does not start ({type(error).__name__}: {error}); look for a full "
            "/dev/shm or /tmp, or start one with `ray start --head` and set RAY_ADDRESS"
        ) from error


def _init(**arguments: Any) -> None:
    import ray

    with _term_handler_kept():
        ray.init(log_to_driver=False, logging_level="ERROR", **arguments)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_REACH_S).close()
    except OSError:
        return False
    return True


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _use_token() -> None:
    """Let this process show the user's token, where there is one and nothing else was asked for."""
    if "RAY_AUTH_MODE" in os.environ or not _has_token():
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    if "ray" in sys.modules:  # it has read the environment already
        importlib.import_module("ray._raylet").Config.initialize("")


def _has_token() -> bool:
    """Whether this user has a token for Ray's clusters, in one of the places where Ray looks."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let a Ray that is started or joined meanwhile live on 127.0.0.1 only.

    Ray replaces a loopback address that it is given by the machine's own, and has servers on all
    interfaces. What it calls clusters off on macOS and Windows keeps all of it on loopback; its
    processes learn of it from the environment, this one from a constant read long ago.
    """
    from ray._private import ray_constants

    before = os.environ.get(_CLUSTERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_CLUSTERS] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[_CLUSTERS]
        else:
            os.environ[_CLUSTERS] = before[0]


@contextmanager
def _signals_after() -> Iterator[None]:
    """Put off SIGINT and SIGTERM until the body is done; the second one goes through at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from ray._private import utils

    came: list[int] = []
    timer, ringing = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)

    def put_off(number: int, frame: FrameType | None) -> None:
        came.append(number)
        # Ray's core has a handler before this one by the end of its start: that prints where it is
        # and lets an alarm abort the process after 3 s.
        signal.signal(signal.SIGALRM, ringing or signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, *timer)
        if len(came) > 1:
            raise KeyboardInterrupt

    before = {n: signal.signal(n, put_off) for n in (signal.SIGINT, signal.SIGTERM)}
    rays_own, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = rays_own
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        if signal.getsignal(came[0]) == signal.SIG_DFL:
            sys.modules["ray"].shutdown()  # nothing runs after the signal
        signal.raise_signal(came[0])


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
