"""Which keys changed since a sequence number: a log of bounded memory beside a table.

It knows no rows, only keys and the numbers under which they changed; a key whose row is gone is in
it like any other. Nothing is stored in the rows for it.

Additions wait in a buffer. When it is full they are dealt out to parts by the high bits of their
hash. A full part first drops repetitions (each key keeps its latest number, so that answers stay
exact) if a sample says that this frees enough, else grows, and at its limit forgets its oldest
quarter, which raises the floor of the whole log. Parts fill up at different times, so that no
addition has to tidy all of them.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64, unmix64

__all__ = ["ChangeLog", "hash_keys", "unhash_keys"]

DEFAULT_BYTES = 64 << 20
_ENTRY_BYTES = 16  # a hash and a sequence number
_MOST_PARTS = 64
_PART_ENTRIES = 4096  # with less room than this for each part there are fewer parts
_MOST_WAITING = 1 << 16  # keys in the buffer
_FIRST_ENTRIES = 64  # of a part, before it grows
_STAGGER = 8  # the smallest part is this share smaller than the largest
_WORTHWHILE = 0.25  # the share of entries that dropping repetitions must free
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_SAMPLE_MASK = np.uint64(7)  # one hash in eight tells how many repeat


@numba.njit(cache=True, nogil=True)
def _hash_keys(keys: np.ndarray) -> np.ndarray:
    out = np.empty(keys.size, np.uint64)
    for i in range(keys.size):
        out[i] = mix64(keys[i])
    return out


@numba.njit(cache=True, nogil=True)
def _unhash_keys(hashes: np.ndarray) -> np.ndarray:
    out = np.empty(hashes.size, np.uint64)
    for i in range(hashes.size):
        out[i] = unmix64(hashes[i])
    return out


@numba.njit(inline="always")
def _part(h: np.uint64, parts: int) -> int:
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
def _keep_buckets(
    hashes: np.ndarray, sequences: np.ndarray, gone: np.ndarray, shift: np.uint64
) -> int:
    """Move the entries of buckets that are not `gone` to the front; return how many there are."""
    at = 0
    for i in range(hashes.size):
        if not gone[hashes[i] >> shift]:
            hashes[at] = hashes[i]
            sequences[at] = sequences[i]
            at += 1
    return at


def hash_keys(keys: np.ndarray) -> np.ndarray:
    """Return `mix64` of each key: uint64 (n,). Its high bits are the key's bucket."""
    return np.asarray(_hash_keys(np.require(keys, np.uint64, ["C", "W"])))


def unhash_keys(hashes: np.ndarray) -> np.ndarray:
    """Return the keys uint64 (n,) whose hashes are given; the inverse of `hash_keys`."""
    return np.asarray(_unhash_keys(np.require(hashes, np.uint64, ["C", "W"])))


class ChangeLog:
    """Keys by the sequence number of their changes, at most about `max_bytes` of them.

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
        parts = min(max(max_bytes // _ENTRY_BYTES // _PART_ENTRIES, 1), _MOST_PARTS)
        waiting = min(_MOST_WAITING, max(max_bytes // _ENTRY_BYTES // 4, 16))
        self._buffer = np.empty(waiting, np.uint64)
        self._additions: list[tuple[int, int]] = []  # (sequence number, stop in the buffer)
        self._dealt = 0  # the last sequence number in the parts
        self._last = 0
        self._floor = 0
        self._clear(parts)

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
        """Bytes of all entries, room to grow included."""
        return int(self._hashes.nbytes + self._sequences.nbytes + self._buffer.nbytes)

    def add(self, sequence: int, keys: np.ndarray) -> None:
        """Note that the rows of `keys` uint64 (n,) changed under `sequence`.

        The keys are copied and may repeat. More of them at once than the log can hold count as a
        `reset`.
        """
        assert sequence >= self._last, "sequence numbers must not fall"
        self._last = sequence
        if not keys.size:
            return
        start = self._additions[-1][1] if self._additions else 0
        stop = start + keys.size
        if stop <= len(self._buffer):
            self._buffer[start:stop] = keys
            self._additions.append((sequence, stop))
            return
        self._flush()
        if keys.size > self.max_bytes // _ENTRY_BYTES // 2:
            self.reset(sequence)
        elif keys.size > len(self._buffer):
            self._deal(np.require(keys, np.uint64, ["C", "W"]), [(sequence, keys.size)])
        else:
            self._buffer[: keys.size] = keys
            self._additions.append((sequence, keys.size))

    def since(self, sequence: int) -> np.ndarray | None:
        """Return the distinct keys changed after `sequence`, sorted by hash: uint64 (n,).

        None when the log does not reach back so far: then any row may have changed.
        """
        if sequence < self._floor:
            return None
        found = self._dealt_since(sequence) if sequence < self._dealt else []
        stop = self._additions[-1][1] if self._additions else 0
        start = next((end for number, end in reversed(self._additions) if number <= sequence), 0)
        found.append(hash_keys(self._buffer[start:stop]))
        hashes = np.sort(np.concatenate(found))
        distinct = np.empty(hashes.size, np.bool_)
        distinct[:1] = True
        np.not_equal(hashes[1:], hashes[:-1], out=distinct[1:])
        return unhash_keys(hashes[distinct])

    def reset(self, sequence: int) -> None:
        """Note that up to `sequence` any row may have changed."""
        if sequence >= self._last:
            self._additions = []
            self._clear(len(self._sizes))
        self._floor = max(self._floor, sequence)
        self._last = max(self._last, sequence)

    def drop(self, gone: np.ndarray) -> None:
        """Forget the keys of the buckets that are True in `gone` bool (num_buckets,)."""
        self._flush()
        shift = np.uint64(65 - gone.size.bit_length())
        for part in range(len(self._sizes)):
            self._sizes[part] = _keep_buckets(*self._entries(part), gone, shift)

    def _clear(self, parts: int) -> None:
        self._sizes = np.zeros(parts, np.int64)
        self._room = np.zeros(parts, np.int64)  # how many entries each part may grow to for now
        self._hashes = np.empty((parts, 0), np.uint64)
        self._sequences = np.empty((parts, 0), np.int64)

    def _entries(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        size = self._sizes[part]
        return self._hashes[part, :size], self._sequences[part, :size]

    def _dealt_since(self, sequence: int) -> list[np.ndarray]:
        found = []
        for part in range(len(self._sizes)):
            hashes, sequences = self._entries(part)
            found.append(hashes[np.searchsorted(sequences, sequence, "right") :])
        return found

    def _flush(self) -> None:
        if self._additions:
            additions, self._additions = self._additions, []
            self._deal(self._buffer[: additions[-1][1]], additions)

    def _deal(self, keys: np.ndarray, additions: list[tuple[int, int]]) -> None:
        """Deal keys out to the parts; make room where there is none."""
        counts = _count(keys, len(self._sizes))
        for part in np.flatnonzero(self._sizes + counts > self._room):
            self._make_room(int(part), int(counts[part]))
        numbers, stops = np.array(additions, np.int64).T.copy()
        _deal(keys, numbers, stops, self._floor, self._hashes, self._sequences, self._sizes)
        self._dealt = int(numbers[-1])

    def _make_room(self, part: int, more: int) -> None:
        self._forget(part)
        if (
            self._sizes[part] + more > self._room[part]
            and _repeated_share(self._entries(part)[0]) >= _WORTHWHILE
        ):
            self._sizes[part] = _keep_latest(*self._entries(part))
        need = int(self._sizes[part]) + more
        if need > self._room[part]:
            self._grow(part, need)
        if need > self._room[part]:
            self._forget_oldest(part, more)

    def _forget(self, part: int) -> None:
        """Drop a part's entries up to the floor."""
        hashes, sequences = self._entries(part)
        first = int(np.searchsorted(sequences, self._floor, "right"))
        if first:
            self._sizes[part] = _move_to_front(hashes, sequences, first)

    def _grow(self, part: int, need: int) -> None:
        parts = len(self._sizes)
        most = max(self.max_bytes // _ENTRY_BYTES // parts, _FIRST_ENTRIES)
        wish = max(2 * int(self._room[part]), need + need // 4, _FIRST_ENTRIES)
        width = self._hashes.shape[1]
        if wish > width and width < most:
            width = min(max(2 * width, wish), most)
            for name, kind in (("_hashes", np.uint64), ("_sequences", np.int64)):
                wider = np.empty((parts, width), kind)
                for p, size in enumerate(self._sizes):
                    wider[p, :size] = getattr(self, name)[p, :size]
                setattr(self, name, wider)
        own = 1 - part / (_STAGGER * parts)
        self._room[part] = int(min(wish, width) * own)

    def _forget_oldest(self, part: int, more: int) -> None:
        """Raise the floor until a part's entries and `more` fill three quarters of its room."""
        excess = int(self._sizes[part] + more - self._room[part] * 3 // 4)
        known = excess <= self._sizes[part]
        self._floor = int(self._sequences[part, excess - 1]) if known else self._last
        self._forget(part)
