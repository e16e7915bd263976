"""Event time: how far each partition has come, which events are too late, what is settled.

A partition's clock is its largest event time less the allowed lateness; the watermark is the
smallest clock over all partitions with something to say. An event is late if its time lies below
its own partition's clock as it was before it. That depends on the order within the partition
alone, not on how a stream was cut into batches, so a run that died and went on, and an offline job
over the same log, call the same events late (Akidau et al., The Dataflow Model, VLDB 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import DataError

__all__ = ["BEGIN", "END", "Watermarks", "checked_times", "event_times"]

BEGIN = -(1 << 62)
"""Before all event times: nothing is known."""
END = 1 << 62
"""After all event times: the stream is over."""

_FARTHEST = 1 << 53  # ms from 1970, some 285,000 years
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


def event_times(table: pa.Table, column: str, unit: str = "ms") -> np.ndarray:
    """Return a column of times as int64 ``(n,)`` ms since 1970.

    Args:
        table: holds the column.
        column: of integers, counted in `unit`, or of Arrow timestamps.
        unit: s, ms, us or ns.

    Raises:
        DataError: there is no such column, it holds no times, one is missing, or lies further from
            1970 than 2⁵³ ms.
    """
    times, inside = checked_times(table, column, unit)
    if not inside.all():
        raise DataError(
            f"{int((~inside).sum())} values of {column!r} are no times in {unit}: they lie over "
            f"285,000 years from 1970"
        )
    return times


def checked_times(table: pa.Table, column: str, unit: str = "ms") -> tuple[np.ndarray, np.ndarray]:
    """Return times as `event_times`, and which of them are within 2⁵³ ms of 1970: bool ``(n,)``.

    Those that are not are 0.

    Raises:
        DataError: there is no such column, it holds no times, or one is missing.
    """
    if column not in table.column_names:
        raise DataError(
            f"there is no column of event times {column!r}{nearest(column, table.column_names)}"
        )
    values = table[column]
    if values.null_count:
        raise DataError(
            f"{values.null_count} events have no {column!r}; declare the column nullable=False in "
            f"the decoder's schema, so that they are set aside"
        )
    if pa.types.is_timestamp(values.type):
        unit = values.type.unit
        values = pc.cast(values, pa.int64())
    elif not pa.types.is_integer(values.type):
        raise DataError(
            f"event times must be integers or timestamps; {column!r} is of type {values.type}"
        )
    numbers, factor = values.to_numpy(), _PER_SECOND[unit]
    inside = _inside(numbers, min(_FARTHEST * factor // 1000, np.iinfo(np.int64).max))
    numbers = (numbers if inside.all() else np.where(inside, numbers, 0)).astype(np.int64)
    # Rounded down, before 1970 too.
    times = numbers * (1000 // factor) if factor <= 1000 else numbers // (factor // 1000)
    return times, inside


def _inside(numbers: np.ndarray, farthest: int) -> np.ndarray:
    """Return which integers of any type lie in -farthest … farthest."""
    if numbers.dtype == np.uint64:
        return np.asarray(numbers <= np.uint64(farthest))
    wide = numbers.astype(np.int64, copy=False)
    return np.asarray((wide >= -farthest) & (wide <= farthest))


class Watermarks:
    """The clocks of all partitions. Not thread-safe.

    Args:
        lateness_ms: how much out of order a partition's events may be.
        idle_ms: a partition that has nothing waiting and has sent nothing for so long, by the
            reader's own clock, holds the watermark up no more.
    """

    def __init__(self, lateness_ms: int, idle_ms: int) -> None:
        self._lateness = lateness_ms
        self._idle = idle_ms
        self._newest: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self.value = BEGIN
        """No event with an earlier time counts any more. Never falls."""

    @property
    def newest(self) -> int:
        """The largest event time of the partitions there are; `BEGIN` before the first event."""
        return max(self._newest.values(), default=BEGIN)

    def late(
        self, partitions: tuple[str, ...], partition: np.ndarray, times: np.ndarray, now_ms: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take in the times of new events and return which are late, and why.

        An event from a partition that was idle is late below the watermark too: what it belonged
        to may be gone.

        Args:
            partitions: names.
            partition: int32 ``(n,)``, index of each event's partition in them.
            times: int64 ``(n,)``, in each partition's order.
            now_ms: the reader's own clock.

        Returns:
            bool ``(n,)``, and int64 ``(n,)``: the clock below which each would have been late.
        """
        newest = np.array([self._newest.get(name, BEGIN) for name in partitions], np.int64)
        late, clocks = _late(partition, times, newest, self._lateness, self.value)
        for i in np.unique(partition).tolist():
            self._newest[partitions[i]] = int(newest[i])
            self._heard[partitions[i]] = now_ms
        return late, clocks

    def advance(self, waiting: Mapping[str, int], now_ms: float) -> int:
        """Raise the watermark as far as the partitions let it; return it.

        Args:
            waiting: all partitions that there are now, with how much is known to wait in each.
            now_ms: the reader's own clock.
        """
        active, idle = [], []
        for name, waits in waiting.items():
            heard = self._heard.setdefault(name, now_ms)
            newest = self._newest.get(name, BEGIN)
            if waits or (newest > BEGIN and now_ms - heard < self._idle):
                active.append(newest)
            else:
                idle.append(newest)
        # Files come and go: those that are gone say nothing any more.
        self._newest = {name: self._newest[name] for name in waiting if name in self._newest}
        behind = min(active) if active else max(idle, default=BEGIN)
        if behind > BEGIN:
            self.value = max(self.value, behind - self._lateness)
        return self.value

    def finish(self) -> int:
        """Raise the watermark above all times, since no event will come."""
        self.value = END
        return END

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"newest": dict(self._newest), "value": self.value}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; partitions count as heard of when they are asked for next."""
        self._newest = {name: int(value) for name, value in state["newest"].items()}
        self._heard = {}
        self.value = int(state["value"])


@numba.njit(nogil=True, cache=True)
def _late(
    partition: np.ndarray, times: np.ndarray, newest: np.ndarray, lateness: int, value: int
) -> tuple[np.ndarray, np.ndarray]:
    late = np.zeros(times.size, np.bool_)
    clocks = np.empty(times.size, np.int64)
    for i in range(times.size):
        p = partition[i]
        clocks[i] = max(value, newest[p] - lateness)
        if times[i] < clocks[i]:
            late[i] = True
        elif times[i] > newest[p]:
            newest[p] = times[i]
    return late, clocks
