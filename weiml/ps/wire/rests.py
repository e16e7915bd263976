"""What was not sent, by key: a bounded table of float32 rows in compiled loops.

It knows nothing of codecs. When it is full, rows leave by CLOCK (Corbató 1968): a hand goes round
and takes the first row that was not used since it last came by.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.rows.memory import prefetch

__all__ = ["Rests"]

_SMALLEST = 1024  # rows that an empty table has room for
_AHEAD = 32  # keys or rows asked for before they are looked at
_ONE = np.uint64(1)
_ZERO = np.float32(0)

# Of a row: used since the hand came by; held back rather than rounded off.
_USED, _HELD = np.uint8(1), np.uint8(2)


@numba.njit(inline="always")
def _slot_of(slots: np.ndarray, home: np.uint64, key: np.uint64) -> np.uint64:
    """Return the slot of `key`, or the free one where it would go. A slot is (key, row + 1)."""
    mask = np.uint64(slots.shape[0] - 1)
    slot = home & mask
    while slots[slot, 1] != 0 and slots[slot, 0] != key:
        slot = (slot + _ONE) & mask
    return slot


@numba.njit(cache=True, nogil=True)
def _find(slots: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the row of each key, -1 where it has none."""
    mask = np.uint64(slots.shape[0] - 1)
    at = slots.ctypes.data
    out = np.empty(keys.size, np.int64)
    homes = np.empty(_AHEAD, np.uint64)
    for start in range(0, keys.size, _AHEAD):
        block = keys[start : start + _AHEAD]
        for j in range(block.size):
            homes[j] = mix64(block[j])
            prefetch(at + 16 * np.int64(homes[j] & mask))
        for j in range(block.size):
            slot = _slot_of(slots, homes[j], block[j])
            out[start + j] = np.int64(slots[slot, 1]) - 1
    return out


@numba.njit(cache=True, nogil=True)
def _add(rests: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    at, size = rests.ctypes.data, 4 * rests.shape[1]
    for i in range(rows.size):
        if i + _AHEAD < rows.size:
            prefetch(at + size * rows[i + _AHEAD])
        if rows[i] >= 0:
            for c in range(values.shape[1]):
                values[i, c] += rests[rows[i], c]


@numba.njit(cache=True, nogil=True)
def _take(rests: np.ndarray, flags: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    at, size = rests.ctypes.data, 4 * rests.shape[1]
    for i in range(rows.size):
        if i + _AHEAD < rows.size:
            prefetch(at + size * rows[i + _AHEAD])
        row = rows[i]
        if row >= 0:
            for c in range(values.shape[1]):
                values[i, c] += rests[row, c]
                rests[row, c] = _ZERO
            flags[row] = _USED


@numba.njit(cache=True, nogil=True)
def _remove(slots: np.ndarray, key: np.uint64) -> None:
    """Free the slot of `key`, moving later ones of its run up so that all are still found."""
    mask = np.uint64(slots.shape[0] - 1)
    hole = _slot_of(slots, mix64(key), key)
    slot = (hole + _ONE) & mask
    while slots[slot, 1] != 0:
        home = mix64(slots[slot, 0]) & mask
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            slots[hole, 0], slots[hole, 1] = slots[slot, 0], slots[slot, 1]
            hole = slot
        slot = (slot + _ONE) & mask
    slots[hole, 1] = 0


@numba.njit(cache=True, nogil=True)
def _insert_all(slots: np.ndarray, row_keys: np.ndarray, count: int) -> None:
    for row in range(count):
        slot = _slot_of(slots, mix64(row_keys[row]), row_keys[row])
        slots[slot, 0] = row_keys[row]
        slots[slot, 1] = np.uint64(row + 1)


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
        _remove(slots, row_keys[row])
        if flags[row] & _HELD:
            late_keys[hands[2]] = row_keys[row]
            late_rows[hands[2]] = rests[row]
            hands[2] += 1
        else:
            for c in range(rests.shape[1]):
                dropped[0] += abs(rests[row, c])
        return int(row)


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
    at, size = rests.ctypes.data, 4 * width
    for i in range(start, keys.size):
        if i + _AHEAD < keys.size:
            prefetch(at + size * rows[i + _AHEAD])
        some = False
        for c in range(width):
            some |= left[i, c] != _ZERO
        if not some:
            continue
        row = rows[i]
        # The row found before the push may have been given to another key meanwhile.
        if row < 0 or (full and row_keys[row] != keys[i]):
            home = mix64(keys[i])
            slot = _slot_of(slots, home, keys[i])
            row = np.int64(slots[slot, 1]) - 1
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
                    slot = _slot_of(slots, home, keys[i])
                row_keys[row] = keys[i]
                slots[slot, 0] = keys[i]
                slots[slot, 1] = np.uint64(row + 1)
                flags[row] = 0
                for c in range(width):
                    rests[row, c] = _ZERO
        for c in range(width):
            rests[row, c] += left[i, c]
        flags[row] |= _USED if sent[i] else _USED | _HELD
    return int(keys.size)


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
        _add(self._rests, _find(self._slots, keys), out)
        return out

    def take(self, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Move the rests of `keys` into `values` (n, width), in place; return the rows for `put`.

        Of a key that occurs twice the first gets the rest.
        """
        rows = np.asarray(_find(self._slots, keys))
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

    def take_all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return keys, rests that are not zero and whether they were held back; forget them."""
        count = len(self)
        some = np.flatnonzero(self._rests[:count].any(axis=1))
        keys, rests = self._row_keys[some], self._rests[some]
        held = (self._flags[some] & _HELD) != 0
        self._clear(min(_SMALLEST, self.capacity))
        return keys, rests, held

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
        self._slots = np.zeros((1 << (4 * room // 3).bit_length(), 2), np.uint64)
        _insert_all(self._slots, self._row_keys, count)
