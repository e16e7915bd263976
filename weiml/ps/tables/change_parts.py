"""Changes without their repetitions: hashes of keys and the latest sequence number of each.

Part of the change log. Entries lie in parts by the high bits of their hash. A full part first drops
repetitions if a sample says that this frees enough, else grows, and at its limit forgets its oldest
quarter, which raises the floor of the whole log. Parts fill up at different times, so that no
addition has to tidy all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = ["ENTRY_BYTES", "ChangeParts"]

ENTRY_BYTES = 16
"""Of a hash and its sequence number."""
_MOST_PARTS = 64
_PART_ENTRIES = 4096  # with less room than this for each part there are fewer parts
_FIRST_ENTRIES = 64  # of a part, before it grows
_STAGGER = 8  # the smallest part is this share smaller than the largest
_WORTHWHILE = 0.25  # the share of entries that dropping repetitions must free
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_SAMPLE_MASK = np.uint64(7)  # one hash in eight tells how many repeat


@numba.njit(inline="always")
def _part(h: np.uint64, parts: int) -> np.int64:
    return np.int64(((h >> np.uint64(32)) * np.uint64(parts)) >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def _count(keys: np.ndarray, parts: int) -> np.ndarray:
    out = np.zeros(parts, np.int64)
    for i in range(keys.size):
        out[_part(mix64(keys[i]), parts)] += 1
    return out


@numba.njit(cache=True, nogil=True)
def _deal(
    keys: np.ndarray,
    numbers: np.ndarray,
    stops: np.ndarray,
    floor: int,
    hashes: np.ndarray,
    sequences: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """Append keys to the parts; additions up to `floor` are left out. There must be room."""
    start = 0
    for addition in range(stops.size):
        number = numbers[addition]
        if number > floor:
            for i in range(start, stops[addition]):
                h = mix64(keys[i])
                part = _part(h, sizes.size)
                hashes[part, sizes[part]] = h
                sequences[part, sizes[part]] = number
                sizes[part] += 1
        start = stops[addition]


@numba.njit(inline="always")
def _slots(entries: int) -> int:
    slots = 4
    while slots < 2 * entries:
        slots *= 2
    return slots


@numba.njit(cache=True, nogil=True)
def _repeated_share(hashes: np.ndarray) -> float:
    """Return which share of the hashes in a sample came before in it."""
    table = np.zeros(_slots(hashes.size // 4 + 8), np.uint64)
    mask = np.uint64(table.size - 1)
    sampled = 0
    repeated = 0
    for i in range(hashes.size):
        h = hashes[i]
        if h & _SAMPLE_MASK == _NONE and h != _NONE and 2 * sampled < table.size:
            slot = (h >> np.uint64(3)) & mask
            while table[slot] != _NONE and table[slot] != h:
                slot = (slot + _ONE) & mask
            sampled += 1
            repeated += table[slot] == h
            table[slot] = h
    return repeated / sampled if sampled else 0.0


@numba.njit(cache=True, nogil=True)
def _keep_latest(hashes: np.ndarray, sequences: np.ndarray) -> int:
    """Move the last entry of each hash to the front, in order; return how many there are."""
    table = np.zeros(_slots(hashes.size), np.uint64)
    mask = np.uint64(table.size - 1)
    zero_seen = False
    at = hashes.size
    for i in range(hashes.size - 1, -1, -1):
        h = hashes[i]
        if h == _NONE:
            seen = zero_seen
            zero_seen = True
        else:
            slot = h & mask
            while table[slot] != _NONE and table[slot] != h:
                slot = (slot + _ONE) & mask
            seen = table[slot] == h
            table[slot] = h
        if not seen:
            at -= 1
            hashes[at] = h
            sequences[at] = sequences[i]
    return _move_to_front(hashes, sequences, at)


@numba.njit(cache=True, nogil=True)
def _move_to_front(hashes: np.ndarray, sequences: np.ndarray, first: int) -> int:
    """Drop the first entries; return how many are left."""
    count = hashes.size - first
    for i in range(count):
        hashes[i] = hashes[first + i]
        sequences[i] = sequences[first + i]
    return count


@numba.njit(cache=True, nogil=True)
def _keep_others(hashes: np.ndarray, sequences: np.ndarray, gone: np.ndarray) -> int:
    """Move the entries that are not `gone` to the front; return how many there are."""
    at = 0
    for i in range(hashes.size):
        if not gone[i]:
            hashes[at] = hashes[i]
            sequences[at] = sequences[i]
            at += 1
    return at


class ChangeParts:
    """Entries in the order of their sequence numbers, within about `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.last = 0
        """The sequence number of the last entry."""
        parts = min(max(max_bytes // ENTRY_BYTES // _PART_ENTRIES, 1), _MOST_PARTS)
        self._sizes = np.zeros(parts, np.int64)
        self._room = np.zeros(parts, np.int64)  # how many entries each part may grow to for now
        self._hashes = np.empty((parts, 0), np.uint64)
        self._sequences = np.empty((parts, 0), np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all entries, room to grow included."""
        return self._hashes.nbytes + self._sequences.nbytes

    def extend(self, keys: np.ndarray, numbers: np.ndarray, stops: np.ndarray, floor: int) -> int:
        """Append additions; return the floor, raised if room for them was made by forgetting.

        The keys uint64 (n,) of addition i end at ``stops[i]``, its number is ``numbers[i]``.
        """
        counts = _count(keys, len(self._sizes))
        for part in np.flatnonzero(self._sizes + counts > self._room).tolist():
            floor = self._make_room(part, int(counts[part]), int(numbers[-1]), floor)
        _deal(keys, numbers, stops, floor, self._hashes, self._sequences, self._sizes)
        self.last = int(numbers[-1])
        return floor

    def since(self, sequence: int) -> list[np.ndarray]:
        """Return the hashes with later numbers, part by part; they may repeat."""
        found = []
        if sequence < self.last:
            for part in range(len(self._sizes)):
                hashes, sequences = self._entries(part)
                found.append(hashes[np.searchsorted(sequences, sequence, "right") :])
        return found

    def drop(self, is_gone: Callable[[np.ndarray], np.ndarray]) -> None:
        """Forget the entries whose hashes uint64 (n,) `is_gone` answers True, bool (n,)."""
        for part in range(len(self._sizes)):
            hashes, sequences = self._entries(part)
            self._sizes[part] = _keep_others(hashes, sequences, is_gone(hashes))

    def _entries(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        size = self._sizes[part]
        return self._hashes[part, :size], self._sequences[part, :size]

    def _make_room(self, part: int, more: int, last: int, floor: int) -> int:
        self._forget(part, floor)
        if (
            self._sizes[part] + more > self._room[part]
            and _repeated_share(self._entries(part)[0]) >= _WORTHWHILE
        ):
            self._sizes[part] = _keep_latest(*self._entries(part))
        need = int(self._sizes[part]) + more
        if need > self._room[part]:
            self._grow(part, need)
        if need > self._room[part]:
            # Until old and coming entries fill three quarters of the room.
            excess = need - int(self._room[part]) * 3 // 4
            known = excess <= self._sizes[part]
            floor = int(self._sequences[part, excess - 1]) if known else last
            self._forget(part, floor)
        return floor

    def _forget(self, part: int, floor: int) -> None:
        """Drop a part's entries up to the floor."""
        hashes, sequences = self._entries(part)
        first = int(np.searchsorted(sequences, floor, "right"))
        if first:
            self._sizes[part] = _move_to_front(hashes, sequences, first)

    def _grow(self, part: int, need: int) -> None:
        parts = len(self._sizes)
        most = max(self.max_bytes // ENTRY_BYTES // parts, _FIRST_ENTRIES)
        wish = max(2 * int(self._room[part]), need + need // 4, _FIRST_ENTRIES)
        width = self._hashes.shape[1]
        # All entries move when the parts are widened: not for a few more at a time.
        if wish > width and 4 * most > 5 * width:
            width = min(max(2 * width, wish), most)
            self._hashes = self._widened(self._hashes, width)
            self._sequences = self._widened(self._sequences, width)
        own = 1 - part / (_STAGGER * parts)
        self._room[part] = int(min(wish, width) * own)

    def _widened(self, entries: np.ndarray, width: int) -> np.ndarray:
        wider = np.empty((len(entries), width), entries.dtype)
        for part, size in enumerate(self._sizes.tolist()):
            wider[part, :size] = entries[part, :size]
        return wider
