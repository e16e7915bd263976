"""What a step has still to send when it ends, sent by a thread while the next step is computed.

The client is used by one thread at a time: between `start` and `settle` it is the outbox's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

from weiml.errors import GradientError
from weiml.models.stages import Stages
from weiml.ps import Client, Ticket

__all__ = ["Blame", "Outbox", "Send"]

Send = Callable[[Client], None]
"""Pushes what a step learned; a step ends with the tick behind it."""
Blame = Callable[[GradientError], NoReturn]
"""Raises what says which step it was whose push was refused."""


class Outbox:
    """At most one step's pushes and its tick. Not thread-safe but for its own thread."""

    def __init__(self, client: Client, stages: Stages) -> None:
        self._client = client
        self._stages = stages
        self._owed: tuple[Send, Blame] | None = None
        self._sending: Future[Ticket] | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def owes(self) -> bool:
        """Whether a step was put here that is not sent yet."""
        return self._owed is not None

    def put(self, send: Send, blame: Blame) -> None:
        """Take a step's pushes, after `settle` of those of the step before."""
        assert self._owed is None, "settle the step before"
        self._owed = send, blame

    def start(self, then: Callable[[], None]) -> None:
        """Begin to send what is owed, and then call `then`; the client is theirs until `settle`."""
        assert self._owed is not None, "nothing is owed"
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._sending = self._thread.submit(self._send, self._owed[0], then)

    def settle(self) -> list[Ticket]:
        """Send what is owed, or wait until it is sent; return the ticket of its tick, if any.

        Raises:
            ParameterServerError: a server failed; or what the step's `Blame` raises.
        """
        if self._owed is None:
            return []
        (send, blame), self._owed = self._owed, None
        sending, self._sending = self._sending, None
        try:
            return [self._send(send) if sending is None else sending.result()]
        except GradientError as error:
            blame(error)

    def close(self) -> None:
        """End the thread, behind what it sends; `settle` comes first."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _send(self, send: Send, then: Callable[[], None] | None = None) -> Ticket:
        send(self._client)
        with self._stages.timed("tick"):
            ticket = self._client.tick()
        if then is not None:
            then()
        return ticket
