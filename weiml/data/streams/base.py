"""What a stream reads from and writes to: events in columns, their sources, and sinks.

A source knows partitions and positions and nothing of what an event says. Positions are kept by
whoever reads, in its checkpoint, and given back by `seek`: brokers are told of them only so that
their own monitoring can show a lag.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

__all__ = ["EventSource", "Positions", "RawEvents", "Sink"]

Positions: TypeAlias = dict[str, Any]
"""By partition, where to go on: plain JSON values that the source alone understands."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawEvents:
    """Events as they came, n of them, in columns; those of one partition in its order.

    Value i is ``data[bounds[i] : bounds[i + 1] - 1]`` and a newline follows it, so that all of
    `data` is text by lines, for readers that take blocks. A value may hold newlines itself.
    """

    partitions: tuple[str, ...]
    """Names that `partition` counts in."""
    partition: np.ndarray
    """``(n,)`` int32, index into `partitions`."""
    offsets: np.ndarray
    """``(n,)`` int64, where each event stands in its partition: a number or a byte."""
    bounds: np.ndarray
    """``(n + 1,)`` int64, from 0 to ``len(data)``."""
    data: pa.Buffer
    times: np.ndarray
    """``(n,)`` int64, ms since 1970: when the broker or the reader got the event."""
    keys: pa.Array | None = None
    """``(n,)`` binary, null where an event has no key; None where no event has one."""

    def __len__(self) -> int:
        return len(self.offsets)

    def value(self, i: int) -> bytes:
        """Return the bytes of event i."""
        return self.data[self.bounds[i] : self.bounds[i + 1] - 1].to_pybytes()

    def key(self, i: int) -> bytes | None:
        """Return the key of event i."""
        return None if self.keys is None else self.keys[i].as_py()

    def slice(self, start: int, stop: int) -> RawEvents:
        """Return events start … stop - 1 without copying their values."""
        bounds = self.bounds[start : stop + 1]
        return RawEvents(
            partitions=self.partitions,
            partition=self.partition[start:stop],
            offsets=self.offsets[start:stop],
            bounds=bounds - bounds[0],
            data=self.data.slice(int(bounds[0]), int(bounds[-1] - bounds[0])),
            times=self.times[start:stop],
            keys=None if self.keys is None else self.keys.slice(start, stop - start),
        )

    @classmethod
    def of_values(
        cls,
        values: Sequence[bytes],
        *,
        partition: str = "0",
        first_offset: int = 0,
        times: np.ndarray | None = None,
    ) -> RawEvents:
        """Return events of one partition from their values, numbered from `first_offset`."""
        n = len(values)
        return cls(
            partitions=(partition,),
            partition=np.zeros(n, np.int32),
            offsets=np.arange(first_offset, first_offset + n),
            bounds=bounds_of(values),
            data=joined(values),
            times=np.zeros(n, np.int64) if times is None else times,
        )

    @classmethod
    def concat(cls, parts: Sequence[RawEvents]) -> RawEvents:
        """Return the events of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        names = tuple(dict.fromkeys(name for part in parts for name in part.partitions))
        place = {name: i for i, name in enumerate(names)}
        starts = np.cumsum([0, *(part.data.size for part in parts)])
        bounds = [part.bounds[:-1] + start for part, start in zip(parts, starts, strict=False)]
        moved = [
            np.array([place[name] for name in part.partitions], np.int32)[part.partition]
            for part in parts
        ]
        return cls(
            partitions=names,
            partition=np.concatenate([*moved, np.empty(0, np.int32)]),
            offsets=np.concatenate([*(part.offsets for part in parts), np.empty(0, np.int64)]),
            bounds=np.concatenate([*bounds, starts[-1:]]).astype(np.int64),
            data=pa.py_buffer(b"".join(memoryview(part.data) for part in parts)),
            times=np.concatenate([*(part.times for part in parts), np.empty(0, np.int64)]),
            keys=_concat_keys(parts),
        )


def bounds_of(values: Sequence[bytes]) -> np.ndarray:
    """Return where each value starts once each is followed by a newline: int64 ``(n + 1,)``."""
    lengths = np.fromiter(map(len, values), np.int64, len(values)) + 1
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def joined(values: Sequence[bytes]) -> pa.Buffer:
    """Return the values in one buffer, each followed by a newline."""
    return pa.py_buffer(b"\n".join([*values, b""]))


def _concat_keys(parts: Sequence[RawEvents]) -> pa.Array | None:
    if all(part.keys is None for part in parts):
        return None
    keys = [pa.nulls(len(p), pa.binary()) if p.keys is None else p.keys for p in parts]
    return pa.concat_arrays(keys)


class EventSource(ABC):
    """Where events come from. Not thread-safe: one thread reads."""

    @abstractmethod
    def partitions(self) -> tuple[str, ...]:
        """Return the partitions that are known now; more may come, and exhausted ones may go."""

    def clock(self, partition: str) -> str:
        """Return the name of the clock that a partition's event times follow; its own by default.

        Partitions that are read one after the other, as parts of one log, share one.
        """
        return partition

    @abstractmethod
    def poll(self, max_events: int, timeout_s: float) -> RawEvents:
        """Return the next events, at most `max_events`; none if none came within `timeout_s`.

        Raises:
            DataError: events between the position and what is left were lost.
            ClusterError: the source cannot be reached.
        """

    @abstractmethod
    def seek(self, positions: Positions) -> None:
        """Go on from `positions`, as `position` returned them; others start at their beginning.

        Raises:
            DataError: a position is no longer there.
        """

    @abstractmethod
    def position(self) -> Positions:
        """Return where each partition goes on after all that was polled."""

    @abstractmethod
    def lag(self) -> dict[str, int]:
        """Return by partition how much is known to wait, in units of the source; 0 if nothing."""

    def saved(self, newest: Positions, oldest: Positions | None) -> None:  # noqa: B027
        """Hear that a checkpoint was taken; most need not know.

        Args:
            newest: its positions.
            oldest: those of the oldest checkpoint that is kept. A run goes back to it if the later
                ones are damaged: only what lies before these is never needed again. None if they
                are not known.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Sink(ABC):
    """Where a stream's results go, once a checkpoint. Not thread-safe.

    A run calls `begin` once, then `write` with rising numbers. Whenever it goes on, after a crash
    or not, it first writes the last checkpoint's tables again, the same ones, since it cannot know
    whether they arrived: a sink for which this matters keeps one result a (number, stream).
    """

    def begin(self, number: int, run: str) -> None:  # noqa: B027, most need not know
        """Hear that results go on after checkpoint `number`: later ones are void.

        Args:
            number: 0 before the first checkpoint.
            run: the name of the run, the same as long as it keeps its `checkpoint_dir`.

        Raises:
            ConfigError: there are results of another run.
        """

    @abstractmethod
    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Take the results of checkpoint `number`, by stream; all of them, or raise."""

    def close(self) -> None:  # noqa: B027, most have nothing open
        """Let go of what is open. May be called twice."""


@dataclass
class MemorySink(Sink):
    """Keeps results in memory, for tests and notebooks."""

    parts: dict[tuple[int, str], pa.Table] = field(default_factory=dict)

    def begin(self, number: int, run: str) -> None:
        """Forget what came after checkpoint `number`."""
        self.parts = {place: part for place, part in self.parts.items() if place[0] <= number}

    def write(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        """Keep the tables under their number."""
        self.parts |= {(number, stream): table for stream, table in tables.items()}

    def table(self, stream: str) -> pa.Table | None:
        """Return all results of a stream in order; None if there are none."""
        parts = [self.parts[place] for place in sorted(self.parts) if place[1] == stream]
        return pa.concat_tables(parts, promote_options="permissive") if parts else None
