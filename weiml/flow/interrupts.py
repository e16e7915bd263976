"""Signals during a run: a time limit, SIGTERM, and clean-up that is not cut short.

All of it works in the main thread only, since only there Python runs signal handlers.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from weiml.errors import FlowError

__all__ = ["NodeTimeoutError", "TerminatedError", "shielded", "terminable", "time_limit"]

_AGAIN_S = 5.0  # an exception can get lost, in a __del__ or a callback; the alarm then rings again


class NodeTimeoutError(Exception):
    """The time limit of a node is over."""


class TerminatedError(SystemExit):
    """SIGTERM came; ends the process with the status that says so, unless someone catches it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Interrupt the body after so many seconds; NodeTimeoutError then leaves this context.

    In the body it is a KeyboardInterrupt, so that steps do not swallow it with other exceptions. It
    interrupts Python code and waiting calls, Ray's among them. A call into compiled code that does
    not return is interrupted when it does; work that must be cut off anyway belongs on the engine
    ``shell`` or into a Ray task.

    Raises:
        FlowError: there is a limit, but this is not the main thread.
    """
    if seconds is None:
        yield
        return
    if not _in_main_thread():
        raise FlowError(f"{what} has timeout_s={seconds:g}, which needs the main thread; unset it")
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, _interrupt(rung))
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
        yield
    except BaseException as error:
        if rung:
            raise NodeTimeoutError from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    if rung:
        raise NodeTimeoutError


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the body as Ctrl-C does; TerminatedError then leaves this context."""
    came: list[int] = []
    with _handling({signal.SIGTERM: _interrupt(came)}):
        try:
            yield
        except KeyboardInterrupt:
            if came:
                raise TerminatedError from None
            raise


@contextmanager
def shielded() -> Iterator[None]:
    """Put off SIGINT and SIGTERM until the body is done; the second one goes through at once."""
    waiting: list[int] = []

    def put_off(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            raise KeyboardInterrupt

    with _handling({signal.SIGINT: put_off, signal.SIGTERM: put_off}):
        yield
    if waiting:
        signal.raise_signal(waiting[0])


def _interrupt(came: list[int]) -> Callable[[int, FrameType | None], None]:
    """A handler that notes the signal and raises KeyboardInterrupt.

    Ray's waiting calls pass on no other exception of a handler: they go on waiting.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    return handle


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
