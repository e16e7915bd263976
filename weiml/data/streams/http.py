"""Events over HTTP, into a durable log that a `GrowingFiles` reads.

    POST /events    a JSON object, a list of them, {"events": [...]}, or JSON lines; in UTF-8
    GET  /healthz   200 while events can be taken, else 503

A 200 means that all events of the request are safe, see `Fsync`; any other status that none is
promised: send the request again. A client that never got its answer sends it again too, so events
need an id of their own and the stream drops repeated ones (`StreamConfig.id`).
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from weiml.data.streams.event_log import EventLog, Fsync
from weiml.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    import uvicorn

__all__ = ["EventReceiver", "ReceiverConfig"]

_START_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ReceiverConfig:
    """Where events are taken, and how many."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one, see `EventReceiver.url`."""
    token: str | None = None
    """Clients send ``Authorization: Bearer TOKEN``. Needed unless the host is loopback."""
    max_body_bytes: int = 8 << 20
    max_event_bytes: int = 1 << 20
    read_s: float = 30.0
    """How long a client may take to send a body."""
    retry_after_s: int = 1
    """What a client is told when there is no room."""
    fsync: Fsync = "always"
    max_file_bytes: int = 256 << 20
    max_pending_bytes: int = 64 << 20
    """Bytes that wait for the disk; with more, 503."""
    max_log_bytes: int = 16 << 30
    """Bytes of the log that its reader has not deleted; with more, 503."""

    def __post_init__(self) -> None:
        if self.token is None and not _is_loopback(self.host):
            raise ConfigError(
                f"host = {self.host!r} is open to others: set a token, or listen on 127.0.0.1"
            )
        if self.token == "":
            raise ConfigError("token is empty; leave it out or set one")
        if self.fsync not in ("always", "second"):
            raise ConfigError(f"fsync must be 'always' or 'second', got {self.fsync!r}")
        for knob in (
            "max_body_bytes",
            "max_event_bytes",
            "max_file_bytes",
            "max_pending_bytes",
            "max_log_bytes",
            "retry_after_s",
        ):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")


class EventReceiver:
    """Takes events in a thread of its own from `start` to `stop`, or in a ``with``.

    Args:
        folder: of the log, for this receiver alone.
        config: address and limits.

    Raises:
        ConfigError: another receiver writes to the folder.
    """

    def __init__(self, folder: str | Path, config: ReceiverConfig | None = None) -> None:
        self.config = config or ReceiverConfig()
        self._folder = folder
        self._log: EventLog | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self._port}"

    def start(self) -> Self:
        """Listen.

        Raises:
            ClusterError: the port is taken, or the server does not come up.
            ConfigError: another receiver writes to the folder.
        """
        import uvicorn  # here, so that streams without a receiver load no web server

        from weiml.data.streams.http_app import http_app

        config = self.config
        place = _listen(config.host, config.port)
        self._port = place.getsockname()[1]
        try:
            self._log = EventLog(
                self._folder,
                fsync=config.fsync,
                max_file_bytes=config.max_file_bytes,
                max_pending_bytes=config.max_pending_bytes,
                max_log_bytes=config.max_log_bytes,
            )
        except BaseException:
            place.close()
            raise
        self._server = uvicorn.Server(
            uvicorn.Config(
                http_app(self._log, config),
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=5,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([place],), name="event-receiver", daemon=True
        )
        self._thread.start()
        self._wait_until_up()
        return self

    def stop(self) -> None:
        """Answer what was asked, write it, and listen no more. May be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _wait_until_up(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        until = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.stop()
                raise ClusterError(f"the event receiver did not come up at {self.url}")
            time.sleep(0.005)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, port))
    except OSError as error:
        place.close()
        raise ClusterError(
            f"cannot listen on {host}:{port}: {error}; choose another port"
        ) from None
    return place


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
