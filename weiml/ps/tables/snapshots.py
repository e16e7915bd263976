"""An atomic cut of a store of rows, read out piece by piece while writes go on.

The snapshot walks the buckets. Before a row in a bucket not walked yet is written for the first
time, what it was, or that it was not there, is set aside in a store of its own; a piece is the
rows as they are, with those put back. So a snapshot costs memory for the rows that change meanwhile
and no copy of the others. It knows words, not what they mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.partition import buckets_of_keys
from weiml.ps.rows.memory import load_u32, store_u32
from weiml.ps.rows.store import RowStore

__all__ = ["TableSnapshot"]

_PIECE_BYTES = 1 << 20  # copied within a millisecond, and in cache when it is written
_IN_RANGE = 4  # keys of a snapshot that a written key is compared with, about
_ONE = np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _set_aside(rows: np.ndarray, kept: np.ndarray, words: int) -> None:
    """Copy rows to where they are kept: a word that is 1 where there is a row, then the row."""
    for i in range(rows.size):
        if rows[i] != 0:
            store_u32(kept[i], np.uint32(1))
            for w in range(words):
                store_u32(kept[i] + 4 * (w + 1), load_u32(rows[i] + 4 * w))


@numba.njit(cache=True, nogil=True)
def _put_back(
    keys: np.ndarray, rows: np.ndarray, kept_keys: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Merge rows with those set aside, which win; both and the result are sorted by hash."""
    words = rows.shape[1]
    out_keys = np.empty(keys.size + kept_keys.size, np.uint64)
    out = np.empty((out_keys.size, words), np.uint32)
    count = 0
    i = 0
    for j in range(kept_keys.size + 1):
        last = j == kept_keys.size
        while i < keys.size and (last or mix64(keys[i]) < mix64(kept_keys[j])):
            out_keys[count] = keys[i]
            out[count] = rows[i]
            count += 1
            i += 1
        if last:
            break
        if i < keys.size and keys[i] == kept_keys[j]:
            i += 1
        if kept[j, 0]:
            out_keys[count] = kept_keys[j]
            out[count] = kept[j, 1:]
            count += 1
    return out_keys[:count], out[:count]


@numba.njit(cache=True, nogil=True)
def _shift_of(ranges: int) -> np.uint64:
    """Return how far to shift a hash for its range, of a power of two of them, two at least."""
    shift = np.uint64(64)
    while ranges > 1:
        shift -= _ONE
        ranges >>= 1
    return shift


@numba.njit(cache=True, nogil=True)
def _starts_of(keys: np.ndarray, ranges: int) -> np.ndarray:
    """Return where each range of hashes starts in keys sorted by hash, and the end of the last."""
    shift = _shift_of(ranges)
    starts = np.zeros(ranges + 1, np.int64)
    for i in range(keys.size):
        starts[(mix64(keys[i]) >> shift) + _ONE] += 1
    for r in range(ranges):
        starts[r + 1] += starts[r]
    return starts


@numba.njit(cache=True, nogil=True)
def _among(keys: np.ndarray, some: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return which keys are among `some`, whose ranges of hashes start at `starts`."""
    shift = _shift_of(starts.size - 1)
    out = np.zeros(keys.size, np.bool_)
    for i in range(keys.size):
        at = mix64(keys[i]) >> shift
        for k in range(starts[at], starts[at + _ONE]):
            if some[k] == keys[i]:
                out[i] = True
                break
    return out


class TableSnapshot:
    """The rows of a table as they were when it was made. Close it, or read it to the end.

    With `keys` uint64 (n,), distinct and sorted by hash, of these keys only.

    Example:
        >>> import numpy as np
        >>> from weiml.ps import SGD, SparseTable, TableConfig
        >>> table = SparseTable(TableConfig("t", optimizer=SGD(lr=1.0)))
        >>> keys = np.array([7], np.uint64)
        >>> table.push_gradients(keys, np.array([[-2]], np.float32), 1)
        >>> snapshot = table.begin_snapshot()
        >>> table.push_gradients(keys, np.array([[-3]], np.float32), 2)
        >>> _, rows = snapshot.next_chunk()
        >>> rows.view(np.float32), table.pull_weights(keys)
        (array([[2.]], dtype=float32), array([[5.]], dtype=float32))
    """

    def __init__(
        self,
        store: RowStore,
        on_close: Callable[[TableSnapshot], None],
        keys: np.ndarray | None = None,
    ) -> None:
        self._store = store
        self._on_close = on_close
        self._row_bytes = 8 + 4 * store.payload_words
        self._keys: np.ndarray | None = None
        if keys is None:
            self._counts = store.bucket_counts()
        else:
            self._keys = np.require(keys, np.uint64, ["C", "W"])
            # Each bucket is some ranges of hashes, of a power of two of them altogether.
            ranges = max(store.num_buckets, 1 << (len(keys) // _IN_RANGE).bit_length())
            self._starts = _starts_of(self._keys, ranges)
            self._counts = np.diff(self._starts[:: ranges // store.num_buckets])
        self._missing: list[np.ndarray] = []
        self._aside = RowStore(store.num_buckets, store.payload_words + 1)
        self._walked = 0  # buckets before this one are done
        self._pieces: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._closed = False
        self.rows = int(self._counts.sum())
        """How many rows, or keys, the snapshot holds altogether."""

    @property
    def nbytes(self) -> int:
        """Bytes of what was set aside, and of pieces not fetched yet."""
        waiting = sum(keys.nbytes + rows.nbytes for keys, rows in self._pieces)
        return self._aside.nbytes + waiting

    def before_write(self, keys: np.ndarray) -> None:
        """Set aside what the rows of `keys` uint64 (n,) are; the table calls it before a write."""
        if self._walked:
            keys = keys[buckets_of_keys(keys, self._store.num_buckets) >= self._walked]
        if self._keys is not None:
            keys = keys[_among(keys, self._keys, self._starts)]
        kept, new = self._aside.find_or_insert(keys)
        if new.size:
            rows = self._store.find(keys[new])
            _set_aside(rows, kept[new], self._store.payload_words)

    def next_chunk(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the next keys uint64 (n,) and rows uint32 (n, payload_words), None at the end.

        Sorted by hash, about 1 MiB at a time.
        """
        while not self._pieces and not self._closed:
            self._walk()
        return self._pieces.popleft() if self._pieces else None

    def missing(self) -> np.ndarray:
        """Return those of `keys`, as far as they were read, that had no row: uint64 (m,)."""
        return np.concatenate([np.empty(0, np.uint64), *self._missing])

    def close(self) -> None:
        """Give up what was set aside; writes cost nothing more. Pieces fetched stay valid."""
        if not self._closed:
            self._closed = True
            self._aside.clear()
            self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pieces.clear()
        self.close()

    def _walk(self) -> None:
        """Copy the next buckets that together are about a piece; a large bucket is several."""
        first = self._walked
        most = max(_PIECE_BYTES // self._row_bytes, 1)
        ends = np.cumsum(self._counts[first:])
        last = first + max(int(np.searchsorted(ends, most, "right")), 1)
        keys, rows = self._read(first, last)
        self._walked = last
        for start in range(0, keys.size, most):
            self._pieces.append((keys[start : start + most], rows[start : start + most]))
        if last == self._store.num_buckets:
            self.close()

    def _read(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of buckets first … last-1 as they were."""
        if self._keys is not None:
            start = int(self._counts[:first].sum())
            keys = self._keys[start : start + int(self._counts[first:last].sum())]
            rows, there = self._read_some(keys)
            if len(self._aside):
                self._aside.clear(np.arange(first, last))
            if there.all():
                return keys, rows
            self._missing.append(keys[~there])
            return keys[there], rows[there]
        keys, addresses = self._store.scan(first, last)
        rows = self._store.rows(addresses)
        kept_keys, kept = self._aside.scan(first, last)
        if kept_keys.size:
            keys, rows = _put_back(keys, rows, kept_keys, self._aside.rows(kept))
            self._aside.clear(np.arange(first, last))
        return keys, rows

    def _read_some(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of keys as they were, and which had one."""
        rows, there = self._store.read(keys)
        if len(self._aside):
            kept, is_kept = self._aside.read(keys)
            there[is_kept] = kept[is_kept, 0] == 1
            rows[is_kept] = kept[is_kept, 1:]
        return rows, there
