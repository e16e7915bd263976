"""What was not sent, by key: a bounded table of float32 rows in compiled loops.

It knows nothing of codecs. When it is full, rows leave by CLOCK (Corbató 1968): a hand goes round
and takes the first row that was not used since it last came by.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.memory import prefetch

__all__ = ["Rests"]

_SMALLEST = 1024  # rows that an empty table has room for
_AHEAD = 12  # slots asked for before they are looked at
_NONE = np.int32(-1)

_FREE, _KNOWN, _USED, _HELD = (np.uint8(n) for n in (0, 1, 2, 4))


@numba.njit(inline="always")
def _slot_of(slots: np.ndarray, row_keys: np.ndarray, key: np.uint64) -> int:
    """Return the slot of `key`, or the free one where it would go."""
    mask = np.uint64(slots.size - 1)
    slot = mix64(key) & mask
    while slots[slot] >= 0 and row_keys[slots[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@numba.njit(cache=True, nogil=True)
def _find(slots: np.ndarray, row_keys: np.ndarray, keys: np.ndarray) -> np.ndarray:
    mask = np.uint64(slots.size - 1)
    at = slots.ctypes.data
    out = np.empty(keys.size, np.int32)
    for i in range(keys.size):
        if i + _AHEAD < keys.size:
            prefetch(at + 4 * np.int64(mix64(keys[i + _AHEAD]) & mask))
        out[i] = slots[_slot_of(slots, row_keys, keys[i])]
    return out


@numba.njit(cache=True, nogil=True)
def _add(rests: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    for i in range(rows.size):
        if rows[i] >= 0:
            for c in range(values.shape[1]):
                values[i, c] += rests[rows[i], c]


@numba.njit(cache=True, nogil=True)
def _take(rests: np.ndarray, flags: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    zero = np.float32(0)
    for i in range(rows.size):
        row = rows[i]
        if row >= 0:
            for c in range(values.shape[1]):
                values[i, c] += rests[row, c]
                rests[row, c] = zero
            flags[row] = _KNOWN | _USED


@numba.njit(cache=True, nogil=True)
def _remove(slots: np.ndarray, row_keys: np.ndarray, key: np.uint64) -> None:
    """Free the slot of `key`, moving later ones of its run up so that all are still found."""
    mask = np.uint64(slots.size - 1)
    hole = np.uint64(_slot_of(slots, row_keys, key))
    slots[hole] = _NONE
    slot = (hole + np.uint64(1)) & mask
    while slots[slot] >= 0:
        home = mix64(row_keys[slots[slot]]) & mask
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            slots[hole] = slots[slot]
            slots[slot] = _NONE
            hole = slot
        slot = (slot + np.uint64(1)) & mask


@numba.njit(cache=True, nogil=True)
def _insert_all(slots: np.ndarray, row_keys: np.ndarray, count: int) -> None:
    for row in range(count):
        slots[_slot_of(slots, row_keys, row_keys[row])] = row


@numba.njit(cache=True, nogil=True)
def _put(
    slots: np.ndarray,
    row_keys: np.ndarray,
    flags: np.ndarray,
    rests: np.ndarray,
    hands: np.ndarray,
    keys: np.ndarray,
    rows: np.ndarray,
    left: np.ndarray,
    sent: np.ndarray,
    start: int,
    full: bool,
    late_keys: np.ndarray,
    late_rows: np.ndarray,
    dropped: np.ndarray,
) -> int:
    """Add ``left[start:]`` to the keys' rests; returns where it stopped for want of room.

    `hands`: (rows in use, the hand, late rows so far). Unless `full`, the table may still grow.
    """
    width = left.shape[1]
    for i in range(start, keys.size):
        some = False
        for c in range(width):
            some |= left[i, c] != np.float32(0)
        if not some:
            continue
        row = np.int64(rows[i])
        # The row found before the push may have been given to another key meanwhile.
        if row < 0 or row_keys[row] != keys[i]:
            slot = _slot_of(slots, row_keys, keys[i])
            row = np.int64(slots[slot])
            if row < 0:
                if hands[0] < row_keys.size:
                    row = hands[0]
                    hands[0] += 1
                elif not full:
                    return i
                else:
                    row = _evicted(
                        slots, row_keys, flags, rests, hands, late_keys, late_rows, dropped
                    )
                    slot = _slot_of(slots, row_keys, keys[i])
                row_keys[row] = keys[i]
                slots[slot] = row
                flags[row] = _KNOWN
                for c in range(width):
                    rests[row, c] = np.float32(0)
        for c in range(width):
            rests[row, c] += left[i, c]
        flags[row] |= _KNOWN | _USED
        if not sent[i]:
            flags[row] |= _HELD
    return keys.size


@numba.njit(cache=True, nogil=True)
def _evicted(
    slots: np.ndarray,
    row_keys: np.ndarray,
    flags: np.ndarray,
    rests: np.ndarray,
    hands: np.ndarray,
    late_keys: np.ndarray,
    late_rows: np.ndarray,
    dropped: np.ndarray,
) -> int:
    """Return a row that was made free, its rest kept as late if it was held back."""
    while True:
        row = hands[1]
        hands[1] = row + 1 if row + 1 < row_keys.size else 0
        if flags[row] & _USED:
            flags[row] &= ~_USED
            continue
        _remove(slots, row_keys, row_keys[row])
        if flags[row] & _HELD:
            late_keys[hands[2]] = row_keys[row]
            late_rows[hands[2]] = rests[row]
            hands[2] += 1
        else:
            for c in range(rests.shape[1]):
                dropped[0] += abs(rests[row, c])
        return row


class Rests:
    """Rows of float32 by uint64 key, at most `capacity` of them; see the module."""

    def __init__(self, width: int, capacity: int) -> None:
        self.width = width
        self.capacity = capacity
        self._dropped = np.zeros(1)
        self._clear(min(_SMALLEST, capacity))

    def __len__(self) -> int:
        return int(self._hands[0])

    @property
    def dropped(self) -> float:
        """Sum of the magnitudes of all that was dropped for want of room."""
        return float(self._dropped[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self._slots, self._row_keys, self._flags, self._rests)
        return sum(array.nbytes for array in arrays)

    def read(self, keys: np.ndarray) -> np.ndarray | None:
        """Return the rests of `keys`, float32 (n, width), zeros where there is none."""
        if not len(self):
            return None
        out = np.zeros((keys.size, self.width), np.float32)
        _add(self._rests, _find(self._slots, self._row_keys, keys), out)
        return out

    def take(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Move the rests of `keys` into `values` (n, width), in place; return the rows for `put`.

        Of a key that occurs twice the first gets the rest.
        """
        rows = np.asarray(_find(self._slots, self._row_keys, keys))
        _take(self._rests, self._flags, rows, values)
        return rows

    def put(
        self, keys: np.ndarray, rows: np.ndarray, left: np.ndarray, sent: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add `left` (n, width) to the rests after `take`; `sent` bool (n,) tells what they are.

        Returns keys (k,) and rows (k, width) of those held back that have to be sent now, for want
        of room.
        """
        room = keys.size if len(self) + keys.size > self.capacity else 0
        late_keys = np.empty(room, np.uint64)
        late_rows = np.empty((room, self.width), np.float32)
        self._hands[2] = 0
        done = 0
        while True:
            done = _put(
                self._slots,
                self._row_keys,
                self._flags,
                self._rests,
                self._hands,
                keys,
                rows,
                left,
                sent,
                done,
                self._row_keys.size == self.capacity,
                late_keys,
                late_rows,
                self._dropped,
            )
            late = int(self._hands[2])
            if done == keys.size:
                return late_keys[:late], late_rows[:late]
            self._grow()

    def take_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and rests that are not zero, and forget them."""
        count = len(self)
        some = np.flatnonzero(self._rests[:count].any(axis=1))
        keys, rests = self._row_keys[some], self._rests[some]
        self._clear(min(_SMALLEST, self.capacity))
        return keys, rests

    def _clear(self, room: int) -> None:
        self._hands = np.zeros(3, np.int64)
        self._row_keys = np.empty(0, np.uint64)
        self._flags = np.empty(0, np.uint8)
        self._rests = np.empty((0, self.width), np.float32)
        self._resize(room)

    def _grow(self) -> None:
        self._resize(min(2 * self._row_keys.size, self.capacity))

    def _resize(self, room: int) -> None:
        count = len(self)
        row_keys = np.empty(room, np.uint64)
        flags = np.zeros(room, np.uint8)
        rests = np.zeros((room, self.width), np.float32)
        row_keys[:count], flags[:count] = self._row_keys[:count], self._flags[:count]
        rests[:count] = self._rests[:count]
        self._row_keys, self._flags, self._rests = row_keys, flags, rests
        num_slots = 1 << (2 * room - 1).bit_length()
        self._slots = np.full(num_slots, _NONE, np.int32)
        _insert_all(self._slots, self._row_keys, count)
