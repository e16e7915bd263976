"""How a stream gets on: a line in the log now and then, and metrics where Ray is up."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["METRICS", "Progress"]

log = logging.getLogger(__name__)

METRICS = {
    "events": "Events read",
    "late": "Events that came too late to count",
    "repeated": "Events dropped because their id had come before",
    "quarantined": "Events that could not be used",
    "lag": "Events, or bytes, known to wait",
    "watermark_delay_seconds": "From the watermark to the newest event time",
    "checkpoint": "Number of the newest checkpoint",
}
"""Metrics by name, ``weiml_stream_NAME`` with the tag ``stream``."""
_COUNTERS = ("events", "late", "repeated", "quarantined")


class Progress:
    """Counts events a second, and tells now and then. Not thread-safe.

    Args:
        name: of the stream.
        every_s: how often it tells.
    """

    def __init__(self, name: str, every_s: float) -> None:
        self.lag = 0
        """What was known to wait after the last batch."""
        self._name = name
        self._every_s = every_s
        self._events = 0
        self._since = time.monotonic()
        self._metrics: dict[str, Any] = {}
        self._told: dict[str, float] = {}

    @property
    def rate(self) -> float:
        """Events a second since it last told, or since the run began."""
        return self._events / max(time.monotonic() - self._since, 1e-9)

    def begin(self) -> None:
        """Count from now on."""
        self._since, self._events = time.monotonic(), 0

    def count(self, events: int, lag: int, status: Callable[[], dict[str, Any]]) -> None:
        """Count the events of a batch, and tell if it is time."""
        self._events += events
        self.lag = lag
        if time.monotonic() - self._since < self._every_s:
            return
        told = status()
        self.begin()
        names = ("events", "events_per_second", "lag", "watermark", "late", "repeated")
        log.info(
            "stream=%s events=%d rate=%.0f/s lag=%d watermark=%s late=%d repeated=%d "
            "quarantined=%d checkpoint=%d",
            self._name,
            *(told[name] for name in (*names, "quarantined", "checkpoint")),
        )
        self._export(told)

    def _export(self, told: dict[str, Any]) -> None:
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        values = {name: float(told.get(name) or 0) for name in METRICS}
        if told["newest"] is not None and told["watermark"] is not None:
            delay = (told["newest"] - told["watermark"]) / 1e3
            values["watermark_delay_seconds"] = delay
        for name, value in values.items():
            metric = self._metric(name)
            if name not in _COUNTERS:
                metric.set(value, {"stream": self._name})
            elif (more := value - self._told.get(name, 0.0)) > 0:
                metric.inc(more, {"stream": self._name})
                self._told[name] = value

    def _metric(self, name: str) -> Any:
        if name not in self._metrics:
            from ray.util.metrics import Counter, Gauge

            kind = Counter if name in _COUNTERS else Gauge
            self._metrics[name] = kind(
                f"weiml_stream_{name}", description=METRICS[name], tag_keys=("stream",)
            )
        return self._metrics[name]
