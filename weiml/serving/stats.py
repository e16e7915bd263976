"""What a replica counts about its answers, cheap enough for every request."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from weiml.errors import ConfigError

__all__ = ["RequestStats"]


class RequestStats:
    """Counts since the start, and latencies of the last `window` requests. Not for threads."""

    def __init__(self, window: int = 2048) -> None:
        if window < 1:
            raise ConfigError(f"window must be at least 1, got {window}")
        self.requests = 0
        self.errors = 0
        self.candidates = 0
        self._seconds: deque[float] = deque(maxlen=window)

    def answered(self, seconds: float, candidates: int) -> None:
        """Count an answer that took `seconds` inside the replica."""
        self.requests += 1
        self.candidates += candidates
        self._seconds.append(seconds)

    def failed(self) -> None:
        """Count a request that was refused."""
        self.requests += 1
        self.errors += 1

    def summary(self) -> dict[str, Any]:
        """Return counts and latency percentiles in milliseconds (None before any answer)."""
        names = ("p50", "p90", "p99")
        latency: dict[str, float | None] = dict.fromkeys(names)
        if self._seconds:
            values = np.percentile(np.array(self._seconds) * 1e3, (50, 90, 99))
            latency = {name: float(value) for name, value in zip(names, values, strict=True)}
        return {
            "requests": self.requests,
            "errors": self.errors,
            "candidates": self.candidates,
            "latency_ms": latency,
        }
