"""Which keys changed since a sequence number: a log of bounded memory beside a table.

It knows no rows, only keys and the numbers under which they changed; a key whose row is gone is in
it like any other. Nothing is stored in the rows for it.

Additions are copied one after the other into segments, which costs next to nothing. When a segment
is full, a sample of its keys says whether most of them are in the log already. While they are, the
oldest segments are dealt out to parts in which each key keeps its latest number only, so that
answers stay exact. What does not fit is forgotten, the oldest first, and the floor says so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numba
import numpy as np

from weiml.hashing import mix64, unmix64
from weiml.ps.partition import buckets_of_keys
from weiml.ps.rows.hash_sort import sort_hashes
from weiml.ps.tables.change_parts import ENTRY_BYTES, ChangeParts

__all__ = ["ChangeLog", "hash_keys"]

DEFAULT_BYTES = 64 << 20
_MOST_IN_SEGMENT = 1 << 16
_MOST_ADDITIONS = 1 << 12  # in a segment
_DEALT_AT_ONCE = 3  # segments; more than come, so that those that wait get fewer
_MOSTLY_KNOWN = 0.7  # from here on, keeping only the latest of each key saves room
_FITTING = 0.6  # if the different keys take less than this part of the room
_MOST_SAMPLED = 1 << 13  # of the keys of a full log
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_EMPTY = np.uint32(0)


@numba.njit(cache=True, nogil=True)
def _hash_keys(keys: np.ndarray, out: np.ndarray) -> None:
    for i in range(keys.size):
        out[i] = mix64(keys[i])


@numba.njit(cache=True, nogil=True)
def _unhash_keys(hashes: np.ndarray) -> np.ndarray:
    out = np.empty(hashes.size, np.uint64)
    for i in range(hashes.size):
        out[i] = unmix64(hashes[i])
    return out


@numba.njit(cache=True, nogil=True)
def _distinct_keys(hashes: np.ndarray) -> int:
    """Turn hashes, which are sorted, into the keys they are of, each once; return how many."""
    count = 0
    last = _NONE
    for i in range(hashes.size):
        h = hashes[i]
        if i == 0 or h != last:
            hashes[count] = unmix64(h)
            count += 1
        last = h
    return count


@numba.njit(inline="always")
def _slot(table: np.ndarray, tag: np.uint32) -> np.uint64:
    mask = np.uint64(table.size - 1)
    slot = np.uint64(tag >> np.uint32(4)) & mask
    while table[slot] != _EMPTY and table[slot] != tag:
        slot = (slot + _ONE) & mask
    return slot


@numba.njit(cache=True, nogil=True)
def _note_sample(
    keys: np.ndarray, mask: np.uint64, table: np.ndarray, older: np.ndarray
) -> tuple[int, int, int, int]:
    """Put hashes whose masked bits are 0 into a table.

    Return how many there are, how many of them were in it or in an older one, how many were put
    into it, and how many of these were not in the older one.
    """
    sampled = 0
    known = 0
    put = 0
    fresh = 0
    for i in range(keys.size):
        h = mix64(keys[i])
        if h & mask == _NONE:
            tag = np.uint32(h >> np.uint64(32)) | np.uint32(1)  # never the mark of an empty slot
            slot = _slot(table, tag)
            in_older = older[_slot(older, tag)] == tag
            sampled += 1
            known += table[slot] == tag or in_older
            put += table[slot] != tag
            fresh += table[slot] != tag and not in_older
            table[slot] = tag
    return sampled, known, put, fresh


def hash_keys(keys: np.ndarray) -> np.ndarray:
    """Return `mix64` of each key: uint64 (n,). Its high bits are the key's bucket."""
    out = np.empty(keys.size, np.uint64)
    _hash_keys(np.require(keys, np.uint64, ["C", "W"]), out)
    return out


@dataclass
class _Segment:
    """Additions as they came."""

    keys: np.ndarray
    """uint64 (n,), those of all additions."""
    numbers: np.ndarray
    """int64 (m,): the sequence number of each addition."""
    stops: np.ndarray
    """int64 (m,): where its keys end."""

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.numbers.nbytes + self.stops.nbytes

    def since(self, sequence: int) -> np.ndarray:
        before = int(np.searchsorted(self.numbers, sequence, "right"))
        return self.keys[self.stops[before - 1] if before else 0 :]

    def without(self, gone: np.ndarray, rows: int | None) -> _Segment:
        kept = ~gone[buckets_of_keys(self.keys, gone.size, rows)]
        stops = np.concatenate([[0], np.cumsum(kept)])[self.stops]
        return _Segment(self.keys[kept], self.numbers, stops)


class ChangeLog:
    """Keys by the sequence number of their changes, within about `max_bytes`.

    Sequence numbers must not fall from one addition to the next. One writer, no locks.

    Example:
        >>> log = ChangeLog()
        >>> log.add(1, np.array([7, 8], np.uint64))
        >>> log.add(2, np.array([8], np.uint64))
        >>> log.since(1)
        array([8], dtype=uint64)
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        """The bound; it may be raised at any time."""
        self._segments: deque[_Segment] = deque()
        self._buffer = np.empty(0, np.uint64)  # the segment that is being filled
        self._last = 0
        self._floor = 0
        self._clear()

    @property
    def floor(self) -> int:
        """The smallest sequence number that `since` answers exactly."""
        return self._floor

    @property
    def last(self) -> int:
        """The sequence number of the last addition or `reset`."""
        return self._last

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept, room to grow included."""
        sample = self._table.nbytes + self._older.nbytes
        return self._parts.nbytes + self._segment_bytes + self._buffer.nbytes + sample

    def add(self, sequence: int, keys: np.ndarray) -> None:
        """Note that the rows of `keys` uint64 (n,) changed under `sequence`.

        The keys are copied and may repeat. More of them at once than the log can hold count as a
        `reset`.
        """
        assert sequence >= self._last, "sequence numbers must not fall"
        self._last = sequence
        if not keys.size:
            return
        most = min(max(self.max_bytes // ENTRY_BYTES // 8, 16), _MOST_IN_SEGMENT)
        stop = self._stop + keys.size
        if stop > most or len(self._additions) == _MOST_ADDITIONS:
            self._seal()
            stop = keys.size
        if keys.size > self.max_bytes // ENTRY_BYTES:
            self.reset(sequence)
        elif keys.size > most:
            numbers, stops = np.array([sequence], np.int64), np.array([keys.size], np.int64)
            self._keep(_Segment(np.array(keys, np.uint64), numbers, stops))
        else:
            if stop > len(self._buffer):
                self._buffer = np.resize(self._buffer, max(stop, min(2 * stop, most)))
            self._buffer[stop - keys.size : stop] = keys
            self._additions.append((sequence, stop))

    def since(self, sequence: int) -> np.ndarray | None:
        """Return the distinct keys changed after `sequence`, sorted by hash: uint64 (n,).

        None when the log does not reach back so far: then any row may have changed.
        """
        if sequence < self._floor:
            return None
        found = []
        for segment in reversed(self._segments):
            if segment.numbers[-1] <= sequence:
                break
            found.append(segment.since(sequence))
        start = next((stop for number, stop in reversed(self._additions) if number <= sequence), 0)
        found.append(self._buffer[start : self._stop])
        dealt = self._parts.since(sequence)
        # Large arrays are memory that the system has to give first: as few as can be.
        hashes = np.empty(sum(part.size for part in found + dealt), np.uint64)
        at = 0
        for keys in found:
            _hash_keys(keys, hashes[at : at + keys.size])
            at += keys.size
        np.concatenate([hashes[:0], *dealt], out=hashes[at:])
        hashes = sort_hashes(hashes)
        distinct = hashes[: _distinct_keys(hashes)]
        return distinct if 2 * distinct.size > hashes.size else distinct.copy()

    def reset(self, sequence: int) -> None:
        """Note that up to `sequence` any row may have changed."""
        if sequence >= self._last:
            self._clear()
        self._floor = max(self._floor, sequence)
        self._last = max(self._last, sequence)

    def drop(self, gone: np.ndarray, rows: int | None = None) -> None:
        """Forget the keys of the buckets that are True in `gone` bool (num_buckets,).

        Buckets by hash, or with `rows` those of a dense table of that many.
        """
        self._seal()

        def is_gone(hashes: np.ndarray) -> np.ndarray:
            return np.asarray(gone[buckets_of_keys(_unhash_keys(hashes), gone.size, rows)])

        self._parts.drop(is_gone)
        self._segments = deque(segment.without(gone, rows) for segment in self._segments)
        self._segment_bytes = sum(segment.nbytes for segment in self._segments)

    @property
    def _stop(self) -> int:
        return self._additions[-1][1] if self._additions else 0

    def _clear(self) -> None:
        self._parts = ChangeParts(self.max_bytes)
        self._segments.clear()
        self._segment_bytes = 0
        self._buffer = np.empty(0, np.uint64)
        self._additions: list[tuple[int, int]] = []  # (sequence number, stop in the buffer)
        self._table = self._older = np.empty(0, np.uint32)  # hashes of the sample, in two ages
        self._noted = 0  # keys of which the sample is in the first
        self._in_table = 0
        self._different = 0  # hashes in both tables together

    def _seal(self) -> None:
        """Close the segment that is being filled."""
        if not self._additions:
            return
        numbers, stops = np.array(self._additions, np.int64).T.copy()
        full = _Segment(self._buffer[: self._stop].copy(), numbers, stops)
        self._additions = []
        self._keep(full)

    def _keep(self, segment: _Segment) -> None:
        """Put the newest segment where it belongs; what is in parts is older than all segments."""
        self._segments.append(segment)
        self._segment_bytes += segment.nbytes
        if self._is_worth_dealing(segment.keys):
            for _ in range(min(len(self._segments), _DEALT_AT_ONCE)):
                self._deal(self._pop())
        while self.nbytes > self.max_bytes and self._segments:
            if self._parts.last > self._floor:
                self._floor = self._parts.last
                self._parts = ChangeParts(self.max_bytes)
            else:
                self._floor = int(self._pop().numbers[-1])

    def _deal(self, segment: _Segment) -> None:
        self._parts.max_bytes = self.max_bytes * 7 // 8 - self._segment_bytes
        arrays = segment.keys, segment.numbers, segment.stops
        self._floor = self._parts.extend(*arrays, self._floor)

    def _pop(self) -> _Segment:
        """Take out the oldest segment."""
        oldest = self._segments.popleft()
        self._segment_bytes -= oldest.nbytes
        return oldest

    def _is_worth_dealing(self, keys: np.ndarray) -> bool:
        """Return whether keeping the latest of each key only saves room, judged by a sample.

        The sample is of the keys that a full log of segments holds, these among them.
        """
        most_keys = self.max_bytes // 8
        most_sampled = min(max(most_keys // 64, 256), _MOST_SAMPLED)
        rate_bits = max((most_keys // most_sampled).bit_length() - 1, 0)
        self._noted += keys.size
        if self._noted > most_keys // 2 or not len(self._table):
            self._noted = keys.size
            self._older = self._table if len(self._table) else np.zeros(4, np.uint32)
            self._different = self._in_table
            self._in_table = 0
            # At most a quarter full, by chance a little more.
            self._table = np.zeros(4 << most_sampled.bit_length(), np.uint32)
        mask = np.uint64((1 << rate_bits) - 1)
        sampled, known, put, fresh = _note_sample(keys, mask, self._table, self._older)
        self._in_table += put
        self._different += fresh
        room = (self._different << rate_bits) * ENTRY_BYTES
        return known >= _MOSTLY_KNOWN * max(sampled, 1) and room <= _FITTING * self.max_bytes
