"""How long the stages of a worker's steps take: summed up by name, or each with its moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Span", "Stages"]


class Span(NamedTuple):
    """One stage of one step."""

    stage: str
    thread: str
    begin_s: float
    """By the machine's clock, `time.time`."""
    seconds: float


class Stages:
    """A stop-watch with a reading for each stage; threads may share it.

    Example:
        >>> stages = Stages()
        >>> with stages.timed("compute"):
        ...     _ = sum(range(1000))
        >>> list(stages.take())
        ['compute']
        >>> stages.take()
        {}
    """

    def __init__(self) -> None:
        self.traced = False
        """Whether each stage's moments are kept for `take_spans`."""
        self._seconds: dict[str, float] = {}
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time inside as part of `stage`."""
        moment, begin = time.time(), time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begin
            self.add(stage, seconds)
            if self.traced:
                span = Span(stage, threading.current_thread().name, moment, seconds)
                with self._lock:
                    self._spans.append(span)

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` as part of `stage`."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call, and begin anew."""
        with self._lock:
            seconds, self._seconds = self._seconds, {}
        return seconds

    def take_spans(self) -> list[Span]:
        """Return the spans since the last call; none unless `traced`."""
        with self._lock:
            spans, self._spans = self._spans, []
        return spans
