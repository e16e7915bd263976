"""How long the stages of a worker's steps take, summed up by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stages"]


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
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time inside as part of `stage`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - begin)

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` as part of `stage`."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call, and begin anew."""
        with self._lock:
            seconds, self._seconds = self._seconds, {}
        return seconds
