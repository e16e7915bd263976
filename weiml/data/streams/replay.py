"""Bad events once more: those of a quarantine's folder, to be decoded anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from weiml.data.streams.base import EventSource, Positions, RawEvents, bounds_of, joined
from weiml.data.streams.quarantine import bad_events
from weiml.errors import DataError

__all__ = ["QuarantinedEvents", "replay"]

_PLACE = "events"


def replay(folder: str | Path) -> RawEvents:
    """Return what was set aside as raw events again: partitions, offsets, times, keys and values.

    Raises:
        DataError: a line of a file is not as `Quarantine` writes them.
    """
    events = list(bad_events(folder))
    if not events:
        return RawEvents.of_values([])
    names = tuple(dict.fromkeys(event.partition for event in events))
    place = {name: i for i, name in enumerate(names)}
    values = [event.value for event in events]
    keys = [event.key for event in events]
    return RawEvents(
        partitions=names,
        partition=np.array([place[event.partition] for event in events], np.int32),
        offsets=np.array([event.offset for event in events], np.int64),
        bounds=bounds_of(values),
        data=joined(values),
        times=np.array([event.time for event in events], np.int64),
        keys=None if all(key is None for key in keys) else pa.array(keys, pa.binary()),
    )


class QuarantinedEvents(EventSource):
    """Reads the bad events of a run that has ended, in memory, each in its old partition.

    Run it ``until="end"`` with a mended decoder and folders of its own, another quarantine among
    them.

    Args:
        folder: of the `Quarantine`.

    Raises:
        DataError: a line of a file is not as `Quarantine` writes them.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._events = replay(folder)
        self._next = 0

    def partitions(self) -> tuple[str, ...]:
        """See `EventSource.partitions`."""
        return self._events.partitions

    def poll(self, max_events: int, timeout_s: float) -> RawEvents:
        """See `EventSource.poll`."""
        start, self._next = self._next, min(self._next + max_events, len(self._events))
        return self._events.slice(start, self._next)

    def seek(self, positions: Positions) -> None:
        """See `EventSource.seek`."""
        self._next = int(positions.get(_PLACE, 0))
        if self._next > len(self._events):
            raise DataError(
                f"{self._folder} holds {len(self._events)} bad events, of which {self._next} were "
                "read: parts of it are gone"
            )

    def position(self) -> Positions:
        """Return how many were read, in all."""
        return {_PLACE: self._next}

    def lag(self) -> dict[str, int]:
        """See `EventSource.lag`."""
        left = self._events.partition[self._next :]
        counts = np.bincount(left, minlength=len(self._events.partitions))
        return dict(zip(self._events.partitions, counts.tolist(), strict=True))

    def close(self) -> None:
        """Nothing is open."""
