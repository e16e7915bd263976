"""WeiParam: the hub that carries deltas and feedback events from training to all replicas.

A plain class of coroutines, made an actor at creation. Knows nothing of HTTP or of models.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weiml.config import nearest
from weiml.errors import ConfigError, ParameterServerError
from weiml.ps import Delta
from weiml.serving.updates import Events, Update, merge_updates

__all__ = ["ParameterHub"]


@dataclass(kw_only=True)
class _Subscriber:
    """A replica, as the hub last heard of it."""

    pid: int
    sequence: int
    reached_at: float
    heard_at: float


class ParameterHub:
    """Numbers updates 1, 2, 3, … and hands each subscriber what it lacks in one message.

    The newest `log_size` updates are kept as they are; older ones are merged into one
    cumulative update, which a late or new replica gets together with the log. The methods are
    coroutines of one event loop (an async actor): no two of them run at once between awaits.
    Nothing survives the process: a new hub has a new epoch, and replicas then start over from
    their snapshot.
    """

    def __init__(
        self, models: Iterable[str], *, log_size: int = 64, silence_s: float = 10.0
    ) -> None:
        if log_size < 1:
            raise ConfigError(f"log_size must be at least 1, got {log_size}")
        self._models = tuple(models)
        self._epoch = uuid.uuid4().hex
        self._log: deque[Update] = deque()
        self._log_size = log_size
        self._merged: Update | None = None
        self._last = 0
        self._silence_s = silence_s
        self._subscribers: dict[str, _Subscriber] = {}
        self._waiting: set[str] = set()
        self._changed = asyncio.Condition()

    async def publish(
        self, deltas: Mapping[str, Delta] | None = None, events: Events | None = None
    ) -> int:
        """Append one update and wake all replicas; returns its sequence number.

        Raises:
            ParameterServerError: a model of `deltas` is not served here, or there is nothing.
        """
        deltas = dict(deltas or {})
        for model in deltas:
            if model not in self._models:
                hint = nearest(model, self._models)
                raise ParameterServerError(f"the hub serves no model {model!r}{hint}")
        if not deltas and not events:
            raise ParameterServerError("an update needs deltas or events; got neither")
        async with self._changed:
            self._last += 1
            self._log.append(
                Update(
                    epoch=self._epoch,
                    first=self._last,
                    last=self._last,
                    deltas=deltas,
                    events=((self._last, events),) if events else (),
                    published_at=time.time(),
                )
            )
            self._trim()
            self._changed.notify_all()
        return self._last

    async def since(
        self,
        subscriber: str,
        sequence: int,
        *,
        epoch: str | None = None,
        pid: int = 0,
        timeout_s: float = 3.0,
    ) -> Update | None:
        """Return what comes after `sequence`, waiting up to `timeout_s` for it; None if nothing.

        The call also tells the hub that `subscriber` answers requests at `sequence`. One that
        follows an earlier hub (another `epoch`) gets everything from the start at once.
        """
        foreign = epoch is not None and epoch != self._epoch
        # Before 0: what it serves has nothing to do with this hub yet.
        self._heard(subscriber, -1 if foreign else sequence, pid)
        if foreign:
            return self._everything()
        self._waiting.add(subscriber)
        try:
            async with self._changed:
                self._changed.notify_all()  # whoever waits for this replica's acknowledgement
                await _wait(self._changed, lambda: self._last != sequence, timeout_s)
                return self._after(sequence)
        finally:
            self._waiting.discard(subscriber)
            if subscriber in self._subscribers:
                self._subscribers[subscriber].heard_at = time.time()

    async def leave(self, subscriber: str) -> None:
        """Forget a replica that ends."""
        async with self._changed:
            self._subscribers.pop(subscriber, None)
            self._changed.notify_all()

    async def wait_for(
        self, sequence: int, *, timeout_s: float = 10.0, replicas: int = 1
    ) -> dict[str, Any]:
        """Wait until at least `replicas` live replicas, and all that are live, serve `sequence`.

        Returns the `status`, with ``reached`` (bool) and ``seconds`` (the wait).
        """
        start = time.monotonic()

        def reached() -> bool:
            live = self._live()
            return len(live) >= replicas and all(live[r].sequence >= sequence for r in live)

        async with self._changed:
            done = await _wait(self._changed, reached, timeout_s)
        seconds = time.monotonic() - start
        return {**await self.status(), "reached": done, "seconds": seconds}

    async def status(self) -> dict[str, Any]:
        """Return the newest number and, by replica, the number it serves, since when, its pid."""
        return {
            "epoch": self._epoch,
            "pid": os.getpid(),
            "sequence": self._last,
            "log": len(self._log),
            "replicas": {
                name: {"sequence": s.sequence, "since": s.reached_at, "pid": s.pid}
                for name, s in sorted(self._live().items())
            },
        }

    def _heard(self, subscriber: str, sequence: int, pid: int) -> None:
        now = time.time()
        known = self._subscribers.get(subscriber)
        since = known.reached_at if known and known.sequence == sequence else now
        self._subscribers[subscriber] = _Subscriber(
            pid=pid, sequence=sequence, reached_at=since, heard_at=now
        )

    def _after(self, sequence: int) -> Update | None:
        if sequence == self._last:
            return None
        oldest = self._log[0].first if self._log else self._last + 1
        if oldest - 1 <= sequence < self._last:
            return merge_updates(update for update in self._log if update.first > sequence)
        return self._everything()

    def _everything(self) -> Update:
        parts = ([self._merged] if self._merged else []) + list(self._log)
        if parts:
            return merge_updates(parts)
        return Update(epoch=self._epoch, first=1, last=0, published_at=time.time())

    def _trim(self) -> None:
        while len(self._log) > self._log_size:
            old = self._log.popleft()
            self._merged = merge_updates([self._merged, old]) if self._merged else old

    def _live(self) -> dict[str, _Subscriber]:
        """Replicas that wait here now or were heard of within the silence limit."""
        edge = time.time() - self._silence_s
        return {
            name: subscriber
            for name, subscriber in self._subscribers.items()
            if name in self._waiting or subscriber.heard_at >= edge
        }


async def _wait(
    condition: asyncio.Condition, predicate: Callable[[], bool], timeout_s: float
) -> bool:
    """Wait, with the condition held, until the predicate holds; False at the deadline."""
    try:
        await asyncio.wait_for(condition.wait_for(predicate), timeout_s)
    except TimeoutError:
        return predicate()
    return True
