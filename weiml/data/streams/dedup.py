"""Events sent twice are counted once: the ids of all events within a horizon of event time.

An id counts as known if its time lies at most the horizon behind the clock by which the event that
has it again is judged late or not. That is decided at look-up: when ids are swept out of memory
changes nothing, so neither does how a stream was cut into batches.
"""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from weiml.hashing import mix64

__all__ = ["Deduplicator"]

_EMPTY = np.uint64(0)  # no event has this id, see weiml.hashing


class Deduplicator:
    """Remembers ids for `horizon_ms` behind their partition's clock. Not thread-safe.

    An event below its clock is late and does not count, so a horizon of 0 already counts every
    event once; a longer one also catches an id that comes again with a later time.

    Example:
        >>> seen = Deduplicator(1000)
        >>> ids, times = np.array([7, 8, 7], np.uint64), np.array([0, 1, 2])
        >>> seen.first(ids, times, times).tolist()
        [True, True, False]
    """

    def __init__(self, horizon_ms: int) -> None:
        self._horizon = horizon_ms
        self._ids = np.zeros(1 << 10, np.uint64)
        self._times = np.zeros(1 << 10, np.int64)
        self._count = 0
        self._swept: int | None = None

    def __len__(self) -> int:
        return self._count

    def first(self, ids: np.ndarray, times: np.ndarray, clocks: np.ndarray) -> np.ndarray:
        """Return which events are the first with their id, and remember them: bool ``(n,)``.

        Args:
            ids: uint64 ``(n,)`` of `weiml.hashing`, none of them 0.
            times: int64 ``(n,)``, ms; the largest of an id's times is kept.
            clocks: int64 ``(n,)``, ms, see `Watermarks.late`.
        """
        self._reserve(len(ids))
        oldest = np.asarray(clocks, np.int64) - self._horizon
        first, new = _insert(self._ids, self._times, ids, np.asarray(times, np.int64), oldest)
        self._count += new
        return np.asarray(first)

    def advance(self, watermark: int) -> None:
        """Free the memory of ids that lie more than the horizon below the watermark, now and then.

        No event that may still count is judged by a clock below the watermark.
        """
        bound = watermark - self._horizon
        step = max(self._horizon // 8, 1000)  # a sweep costs a pass over all
        if self._swept is None or bound - self._swept >= step:
            self._swept = bound
            kept = (self._ids != _EMPTY) & (self._times >= bound)
            self._rebuild(self._ids[kept], self._times[kept], 0)

    def state(self) -> pa.Table:
        """Return ids and times."""
        kept = self._ids != _EMPTY
        return pa.table({"id": self._ids[kept], "time": self._times[kept]})

    def restore(self, table: pa.Table) -> None:
        """Go on from `state`."""
        self._swept = None
        self._rebuild(table["id"].to_numpy(), table["time"].to_numpy(), 0)

    def _reserve(self, more: int) -> None:
        if (self._count + more) * 2 > len(self._ids):
            kept = self._ids != _EMPTY
            self._rebuild(self._ids[kept], self._times[kept], more)

    def _rebuild(self, ids: np.ndarray, times: np.ndarray, more: int) -> None:
        size = 1 << max(10, int((len(ids) + more) * 3).bit_length())
        self._ids, self._times = np.zeros(size, np.uint64), np.zeros(size, np.int64)
        _insert(self._ids, self._times, ids, times, times)
        self._count = len(ids)


@numba.njit(nogil=True, cache=True)
def _insert(
    slots: np.ndarray,
    slot_times: np.ndarray,
    ids: np.ndarray,
    times: np.ndarray,
    oldest: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Insert ids by linear probing; the table has room.

    Returns:
        Which were not there with a time of at least `oldest`, and how many slots were filled.
    """
    first = np.zeros(ids.size, np.bool_)
    new = 0
    mask = np.uint64(slots.size - 1)
    for i in range(ids.size):
        at = mix64(ids[i]) & mask
        while slots[at] != _EMPTY and slots[at] != ids[i]:
            at = (at + np.uint64(1)) & mask
        if slots[at] == _EMPTY:
            slots[at] = ids[i]
            slot_times[at] = times[i]
            first[i] = True
            new += 1
        else:
            first[i] = slot_times[at] < oldest[i]
            slot_times[at] = max(slot_times[at], times[i])
    return first, new
