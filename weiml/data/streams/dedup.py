"""Events sent twice are counted once: the ids of all events within a horizon of event time."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from weiml.hashing import mix64

__all__ = ["Deduplicator"]

_EMPTY = np.uint64(0)  # no event has this id, see weiml.hashing


class Deduplicator:
    """Remembers ids for `horizon_ms` behind the watermark. Not thread-safe.

    An event below the watermark is late and does not count, so a horizon of 0 already counts every
    event once; a longer one also catches an id that comes again with a later time.

    Example:
        >>> seen = Deduplicator(1000)
        >>> seen.first(np.array([7, 8, 7], np.uint64), np.array([0, 1, 2])).tolist()
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

    def first(self, ids: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return which events are the first with their id, and remember them: bool ``(n,)``.

        Args:
            ids: uint64 ``(n,)`` of `weiml.hashing`, none of them 0.
            times: int64 ``(n,)``, ms; the largest of an id's times is kept.
        """
        self._reserve(len(ids))
        first = _insert(self._ids, self._times, ids, np.asarray(times, np.int64))
        self._count += int(first.sum())
        return np.asarray(first)

    def advance(self, watermark: int) -> None:
        """Forget ids whose time lies more than the horizon below the watermark."""
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
        _insert(self._ids, self._times, ids, times)
        self._count = len(ids)


@numba.njit(nogil=True, cache=True)
def _insert(
    slots: np.ndarray, slot_times: np.ndarray, ids: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Insert ids by linear probing; the table has room. Return which were not there."""
    first = np.zeros(ids.size, np.bool_)
    mask = np.uint64(slots.size - 1)
    for i in range(ids.size):
        at = mix64(ids[i]) & mask
        while slots[at] != _EMPTY and slots[at] != ids[i]:
            at = (at + np.uint64(1)) & mask
        if slots[at] == _EMPTY:
            slots[at] = ids[i]
            slot_times[at] = times[i]
            first[i] = True
        else:
            slot_times[at] = max(slot_times[at], times[i])
    return first
