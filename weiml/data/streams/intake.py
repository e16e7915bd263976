"""From raw events to those that count: decoded, in time, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from weiml.data.durations import milliseconds
from weiml.data.streams.base import EventSource, RawEvents
from weiml.data.streams.config import StreamConfig
from weiml.data.streams.decode import Decoder
from weiml.data.streams.dedup import Deduplicator
from weiml.data.streams.quarantine import Quarantine
from weiml.data.streams.watermark import Watermarks, checked_times, event_times
from weiml.data.streams.windows import key_hashes

__all__ = ["Intake", "Operations", "Taken"]

Operations: TypeAlias = Callable[[pa.Table], pa.Table]
"""Row by row: what comes of an event depends on that event alone. May drop events and add more."""


@dataclass(frozen=True, eq=False)
class Taken:
    """What came of a batch."""

    events: pa.Table
    """Those that count, after the operations."""
    times: np.ndarray
    """Their times, int64 ms."""
    late: pa.Table
    """Those that came too late, as decoded."""


class Intake:
    """Decodes, sets bad events aside, tells late and repeated ones, applies operations.

    Not thread-safe.
    """

    def __init__(
        self,
        config: StreamConfig,
        decoder: Decoder,
        quarantine: Quarantine,
        operations: Operations | None = None,
    ) -> None:
        self.quarantine = quarantine
        self.watermarks = Watermarks(
            milliseconds(config.lateness, "lateness", least=0), milliseconds(config.idle, "idle")
        )
        self.seen = Deduplicator(milliseconds(config.id_horizon, "id_horizon", least=0))
        self.counts = {"events": 0, "late": 0, "repeated": 0, "without_id": 0}
        self._config = config
        self._decoder = decoder
        self._operations = operations
        self._ahead = (
            None if config.max_ahead is None else milliseconds(config.max_ahead, "max_ahead")
        )

    def take(self, raw: RawEvents, source: EventSource) -> Taken:
        """Take in raw events of a source.

        Raises:
            DataError: too many events are bad, or a column is missing.
        """
        self.counts["events"] += len(raw)
        self.quarantine.see(len(raw))
        table, times, rows = self._decoded(raw)
        late, clocks = self._late(raw, rows, times, source)
        self.counts["late"] += int(late.sum())
        kept = ~late
        kept[kept] = self._first(table, times, clocks, kept)
        good = table if kept.all() else table.filter(pa.array(kept))
        late_events = table.filter(pa.array(late)) if late.any() else table.slice(0, 0)
        if self._operations is None:
            return Taken(good, times[kept], late_events)
        events = self._operations(good)
        times = event_times(events, self._config.time, self._config.time_unit)
        return Taken(events, times, late_events)

    def advance(self, source: EventSource, lag: Mapping[str, int]) -> int:
        """Raise the watermark as far as the source's partitions let it, and return it.

        Args:
            source: where events come from.
            lag: by partition, what waits.
        """
        waiting: dict[str, int] = {}
        for name in source.partitions():
            clock = source.clock(name)
            waiting[clock] = waiting.get(clock, 0) + lag.get(name, 0)
        value = self.watermarks.advance(waiting, _now_ms())
        self.seen.advance(value)
        return value

    def state(self) -> tuple[dict[str, Any], dict[str, pa.Table]]:
        """Return what a checkpoint keeps: plain JSON, and tables."""
        tree = {
            "watermarks": self.watermarks.state(),
            "counts": dict(self.counts),
            "quarantine": self.quarantine.state(),
        }
        return tree, {"seen": self.seen.state()}

    def restore(self, tree: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> None:
        """Go on from `state`."""
        self.watermarks.restore(tree["watermarks"])
        self.counts = dict(tree["counts"])
        self.quarantine.restore(tree["quarantine"])
        self.seen.restore(tables["seen"])

    def _decoded(self, raw: RawEvents) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """Return the good events, their times and which raw events they are."""
        decoded = self._decoder.decode(raw)
        table, rows = decoded.table, decoded.rows
        self.quarantine.add(raw, decoded.bad, decoded.reasons)
        column = self._config.time
        times, inside = checked_times(table, column, self._config.time_unit)
        good = self._set_aside(
            raw, rows, ~inside, f"its {column!r} is no time: over 285,000 years from 1970"
        )
        if self._ahead is not None:
            ahead = good & (times > raw.times[rows] + self._ahead)
            reason = f"its {column!r} lies over max_ahead after it came"
            good &= self._set_aside(raw, rows, ahead, reason)
        self.quarantine.check()
        if good.all():
            return table, times, rows
        return table.filter(pa.array(good)), times[good], rows[good]

    def _set_aside(
        self, raw: RawEvents, rows: np.ndarray, wrong: np.ndarray, reason: str
    ) -> np.ndarray:
        """Set aside the events of `wrong` rows; return which rows are left: bool ``(n,)``."""
        if not wrong.any():
            return np.ones(len(rows), np.bool_)
        bad = np.unique(rows[wrong]).tolist()
        self.quarantine.add(raw, bad, [reason] * len(bad))
        return ~np.isin(rows, bad)  # an event of several rows goes as a whole

    def _late(
        self, raw: RawEvents, rows: np.ndarray, times: np.ndarray, source: EventSource
    ) -> tuple[np.ndarray, np.ndarray]:
        clocks = [source.clock(name) for name in raw.partitions]
        names = tuple(dict.fromkeys(clocks))
        of = np.array([names.index(clock) for clock in clocks], np.int32)
        return self.watermarks.late(names, of[raw.partition[rows]], times, _now_ms())

    def _first(
        self, table: pa.Table, times: np.ndarray, clocks: np.ndarray, kept: np.ndarray
    ) -> np.ndarray:
        """Return which of the `kept` events did not come before: bool ``(kept.sum(),)``.

        Those without an id are like no other.
        """
        first = np.ones(int(kept.sum()), np.bool_)
        if self._config.id is None:
            return first
        ids = key_hashes(table, (self._config.id,))
        known = kept & table[self._config.id].is_valid().to_numpy()
        first[known[kept]] = self.seen.first(ids[known], times[known], clocks[known])
        self.counts["without_id"] += int(kept.sum() - known.sum())
        self.counts["repeated"] += int((~first).sum())
        return first


def _now_ms() -> float:
    return time.monotonic() * 1e3
