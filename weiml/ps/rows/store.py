"""Rows by 64-bit key: key and payload side by side in buckets of open addressing, grown in place.

It knows words of 32 bits, not what they mean. One writer; readers in other threads only while
nobody writes. How a bucket is laid out says `rows.search`.

A bucket that reaches `max_load` moves alone to a larger extent. The capacities that a bucket can
have form a geometric series whose start is staggered over the buckets, so in a large store they
fill one after the other: at any time loads spread evenly from ``max_load / 1.15`` to `max_load`,
never is more than a bucket copied in a row, and the old extents die together, page by page.
"""

from __future__ import annotations

import math

import numpy as np

from weiml.errors import ConfigError
from weiml.ps.rows.append import append_rows, count_appendable
from weiml.ps.rows.arena import Arena
from weiml.ps.rows.memory import address_of
from weiml.ps.rows.search import find_rows, visit_rows
from weiml.ps.rows.store_kernels import (
    buckets_of,
    copy_payloads,
    delete_rows,
    insert_rows,
    keys_in,
    move_buckets,
    read_rows,
    scan_buckets,
    set_payloads,
)

__all__ = ["DEVIATIONS", "RowStore"]

LARGE = 64 << 20
"""Bytes from which a store grows by little at a time; below it buckets double."""
_STEP = 1.15  # growth of a bucket in a large store
_SHRINK = 0.25  # a bucket emptier than this part of full gives memory back
DEVIATIONS = 3
"""Standard deviations that a bucket is taken to have more than its share of expected rows at most:
keys fall into buckets as if by chance, so about one in a thousand has more."""
_SMALLEST = 8  # home slots of a bucket's first extent
_SHORTEST_TAIL = 8  # at least what is looked at at first
_LONGEST_TAIL = 256
_TOGETHER = 1 << 14  # keys found and then inserted, while what was found is in cache
_BATCH = 32 << 20  # bytes moved before the old extents are given back


class RowStore:
    """A map from uint64 keys to payloads of `payload_words` 32-bit words.

    A key's bucket is the upper bits of its `mix64`; buckets that hold no row cost nothing. Growth
    copies one bucket at a time, so the longest pause of an insertion is that of copying a bucket:
    about 2 ms at 100 million rows of two words in 1024 buckets. With `expected_rows` a bucket has
    room for its share of them from its first row on, and need not grow before.

    Raises:
        ConfigError: `num_buckets` is not a power of two from 2 to 65536, `payload_words` is not
            positive, `max_load` is not from 0.1 to 0.97, or `expected_rows` is negative.
    """

    def __init__(
        self,
        num_buckets: int,
        payload_words: int,
        *,
        max_load: float = 0.8,
        expected_rows: int = 0,
    ) -> None:
        if num_buckets not in (1 << bits for bits in range(1, 17)):
            raise ConfigError(
                f"num_buckets must be a power of two from 2 to 65536, got {num_buckets}"
            )
        if payload_words < 1:
            raise ConfigError(f"payload_words must be 1 or more, got {payload_words}")
        if not 0.1 <= max_load <= 0.97:
            raise ConfigError(f"max_load must be from 0.1 to 0.97, got {max_load}")
        if expected_rows < 0:
            raise ConfigError(f"expected_rows must be 0 or more, got {expected_rows}")
        self.num_buckets = num_buckets
        self.payload_words = payload_words
        self.max_load = max_load
        self._slot = 8 + 4 * payload_words
        self._group, reach = _looks(self._slot)
        bits = num_buckets.bit_length() - 1
        self._shape = np.array([bits, self._slot, self._group, reach], np.int64)
        self._stagger = np.arange(num_buckets) / num_buckets
        self._least = self._room_for(expected_rows)
        # What a bucket without memory of its own shows: the empty slots that are looked at first.
        self._nothing = np.zeros(max(128, self._slot + 8), np.uint8)
        self._reset()

    def _reset(self) -> None:
        self._arena = Arena()
        self._homes = np.zeros((self.num_buckets, 2), np.int64)
        self._homes[:, 0] = self._nothing.ctypes.data
        self._fill = np.zeros((self.num_buckets, 3), np.int64)

    def __len__(self) -> int:
        return int(self._fill[:, 0].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, empty ones included."""
        return self._arena.nbytes

    def bucket_counts(self) -> np.ndarray:
        """Return the rows in each bucket: int64 (num_buckets,)."""
        return self._fill[:, 0].copy()

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the payload address of each key uint64 (n,), 0 where missing: int64 (n,)."""
        keys = _flat(keys)
        out = np.empty(keys.size, np.int64)
        find_rows(self._homes, self._shape, keys, out)
        return out

    def find_or_insert(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return payload addresses int64 (n,), and which keys are new: their positions, ascending.

        A new payload is zero. A key that is new and repeated is new at its first position.
        Addresses hold until the next insertion, deletion or clearing.
        """
        keys = _flat(keys)
        addresses = np.empty(keys.size, np.int64)
        touched = np.zeros(self.num_buckets, np.bool_)
        parts = [np.empty(0, np.int64)]
        for start in range(0, keys.size, _TOGETHER):
            part = slice(start, start + _TOGETHER)
            if find_rows(self._homes, self._shape, keys[part], addresses[part]):
                which = start + np.flatnonzero(addresses[part] == 0)
                parts.append(self._insert(keys, which, touched))
        if touched.all():
            find_rows(self._homes, self._shape, keys, addresses)
        elif len(parts) > 1:
            again = keys_in(touched, self._shape, keys)
            addresses[again] = self.find(keys[again])
        return addresses, np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _insert(self, keys: np.ndarray, which: np.ndarray, touched: np.ndarray) -> np.ndarray:
        parts = []
        while which.size:
            new, refused = np.empty(which.size, np.int64), np.empty(which.size, np.int64)
            made, failed = insert_rows(
                self._homes, self._fill, self._shape, keys, which, touched, new, refused
            )
            parts.append(new[:made])
            which = refused[:failed]
            if failed:
                waiting = np.bincount(self._buckets(keys[which]), minlength=self.num_buckets)
                buckets = np.flatnonzero(waiting)
                self._grow(buckets, waiting[buckets])
        if len(parts) == 1:
            return parts[0]
        is_new = np.zeros(keys.size, np.bool_)
        is_new[np.concatenate(parts)] = True
        return np.flatnonzero(is_new)

    def reserve(self, rows: np.ndarray) -> None:
        """Give each bucket room for `rows` int64 (num_buckets,), those it has included.

        What is then appended is neither counted before nor moved while it comes. Rows that do not
        come leave their room empty.
        """
        tight = np.flatnonzero(rows > self._fill[:, 1])
        larger = self._capacity(tight, rows[tight] / self.max_load + self._group)
        larger = np.maximum(larger, self._least)
        self._move(tight, larger, self._tail(larger))

    def append(self, keys: np.ndarray, payload: np.ndarray) -> int:
        """Insert the first rows that are sorted by hash and new behind their buckets' last ones.

        Returns how many those were, of keys uint64 (n,) and payload uint32 (n, payload_words),
        which may be read-only; the others are not touched. In a store that is filled in the order
        of `scan` these are all, at the speed of a copy.
        """
        assert payload.shape == (keys.size, self.payload_words), payload.shape
        keys = np.ascontiguousarray(keys, np.uint64)
        rows = np.ascontiguousarray(payload, np.uint32)
        done, is_full = self._append(keys, rows)
        if is_full:
            counts = np.zeros(self.num_buckets, np.int64)
            rest = keys[done:]
            count_appendable(
                self._homes, self._fill, self._shape, address_of(rest), rest.size, counts
            )
            self.reserve(np.where(counts > 0, self._fill[:, 0] + counts, 0))
            # A tail that is too short ends this too; an insertion makes it longer.
            done += self._append(rest, rows[done:])[0]
        return done

    def _append(self, keys: np.ndarray, rows: np.ndarray) -> tuple[int, bool]:
        where = address_of(keys), address_of(rows), keys.size
        done, is_full = append_rows(self._homes, self._fill, self._shape, *where)
        return int(done), bool(is_full)

    def visit(
        self, keys: np.ndarray, values: np.ndarray, function: int, parameters: np.ndarray
    ) -> int:
        """Run a compiled function over the rows of keys, block by block, while they are in cache.

        `function` is the address of a C function ``void (int64 addresses, int64 n, int64 values,
        int64 parameters)`` (`numba.cfunc`): where n payload addresses (int64) lie, where the n rows
        of `values`, float32 (len(keys), m), and where `parameters` float32. It may read or write
        the values, and must neither insert nor delete.

        Returns how many keys were visited: all, or those before the first block (of `VISITED` keys,
        where slots are of 16 bytes) with one that is missing, for the caller to insert and go on.
        """
        assert values.dtype == parameters.dtype == np.float32, (values.dtype, parameters.dtype)
        assert values.flags.c_contiguous, "values must be C-contiguous"
        return int(visit_rows(self._homes, self._shape, _flat(keys), values, parameters, function))

    def delete(self, keys: np.ndarray) -> np.ndarray:
        """Delete keys; return which were there, the first of repeated ones only: bool (n,)."""
        keys = _flat(keys)
        out = np.empty(keys.size, np.bool_)
        delete_rows(self._homes, self._fill, self._shape, keys, out)
        if out.any():
            self._shrink(np.unique(self._buckets(keys[out])))
        return out

    def scan(self, first_bucket: int, last_bucket: int) -> tuple[np.ndarray, np.ndarray]:
        """Return keys uint64 (n,) and addresses int64 (n,) of buckets first … last-1, by hash."""
        n = int(self._fill[first_bucket:last_bucket, 0].sum())
        keys, addresses = np.empty(n, np.uint64), np.empty(n, np.int64)
        scan_buckets(
            self._homes, self._fill, self._shape, first_bucket, last_bucket, keys, addresses
        )
        return keys, addresses

    def rows(self, addresses: np.ndarray) -> np.ndarray:
        """Return a copy of the payloads uint32 (n, payload_words); zeros at address 0."""
        out = np.empty((addresses.size, self.payload_words), np.uint32)
        copy_payloads(addresses, out)
        return out

    def read(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy of the payloads of keys uint64 (n,), and which are there: bool (n,).

        The payloads are uint32 (n, payload_words), zeros where missing.
        """
        keys = _flat(keys)
        out = np.empty((keys.size, self.payload_words), np.uint32)
        found = np.empty(keys.size, np.bool_)
        read_rows(self._homes, self._shape, keys, out, found)
        return out, found

    def set_rows(self, addresses: np.ndarray, payload: np.ndarray) -> None:
        """Overwrite the payloads at `addresses` (none of them 0) by uint32 (n, payload_words)."""
        assert payload.shape == (addresses.size, self.payload_words), payload.shape
        set_payloads(addresses, np.require(payload, np.uint32, ["C", "W"]))

    def clear(self, buckets: np.ndarray | None = None) -> None:
        """Drop all rows, or all rows of `buckets` int (m,), and give their memory back."""
        if buckets is None:
            self._reset()
            return
        held = np.unique(np.asarray(buckets, np.int64))
        held = held[self._fill[held, 2] > 0]
        self._arena.free(self._homes[held, 0], self._bytes(self._fill[held, 2]))
        self._homes[held] = (self._nothing.ctypes.data, 0)
        self._fill[held] = 0

    def _buckets(self, keys: np.ndarray) -> np.ndarray:
        return np.asarray(buckets_of(self._shape, keys))

    def _bytes(self, room: np.ndarray) -> np.ndarray:
        """Return the size of extents in which rows may lie in `room` slots."""
        return (room + 1) * self._slot

    def _grow(self, buckets: np.ndarray, waiting: np.ndarray) -> None:
        """Move `buckets`, which refused rows, to extents with room for some of `waiting` more."""
        count, limit, room = self._fill[buckets].T
        capacity = self._homes[buckets, 1] * self._group
        held = np.count_nonzero(self._fill[:, 2])
        usual = self._homes[:, 1].sum() * self._group / max(held, 1)
        double = (self._arena.nbytes < LARGE) | (capacity < usual / 2)
        # Half a step beyond the present capacity, rounded up to the series, is the next in it.
        wanted = capacity * np.where(double, 2.0, math.sqrt(_STEP))
        # How many of those that wait are different keys is not known.
        rows = np.minimum(count + waiting, 4 * count + _SMALLEST)
        wanted = np.maximum(wanted, rows / self.max_load)
        full = count >= limit
        larger = np.where(full, self._capacity(buckets, wanted), capacity)
        larger = np.maximum(larger, self._least)
        # Keys that crowd at the end of a bucket need a longer tail, not more homes.
        tail = np.where(full, room - capacity, 2 * (room - capacity))
        self._move(buckets, larger, np.maximum(tail, self._tail(larger)))

    def _shrink(self, buckets: np.ndarray) -> None:
        count, limit = self._fill[buckets, 0], self._fill[buckets, 1]
        least = max(_SMALLEST, self._least)
        buckets = buckets[
            (count < _SHRINK * limit) & (self._homes[buckets, 1] * self._group > least)
        ]
        if buckets.size == 0:
            return
        self.clear(buckets[self._fill[buckets, 0] == 0])
        buckets = buckets[self._fill[buckets, 0] > 0]
        smaller = self._capacity(buckets, self._fill[buckets, 0] * _STEP / self.max_load)
        smaller = np.maximum(smaller, self._least)
        self._move(buckets, smaller, self._tail(smaller))

    def _room_for(self, rows: int) -> int:
        """Return the home slots in which nearly every bucket finds room when there are `rows`."""
        mean = rows / self.num_buckets
        slots = math.ceil((mean + DEVIATIONS * math.sqrt(mean)) / self.max_load)
        return -(-slots // self._group) * self._group

    def _capacity(self, buckets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return the first of each bucket's possible capacities that is at least `wanted`."""
        stagger = self._stagger[buckets]
        at_least = np.maximum(wanted, _SMALLEST) / _SMALLEST
        power = np.ceil(np.log(at_least) / math.log(_STEP) - stagger) + stagger
        slots = np.ceil(_SMALLEST * _STEP**power).astype(np.int64)
        return -(-slots // self._group) * self._group

    def _tail(self, capacity: np.ndarray) -> np.ndarray:
        return np.minimum(_LONGEST_TAIL, _SHORTEST_TAIL + capacity // 16)

    def _move(self, buckets: np.ndarray, capacity: np.ndarray, tail: np.ndarray) -> None:
        """Move buckets to new extents of these capacities, doubling tails that turn out short."""
        moved = np.cumsum(self._bytes(capacity + tail))
        for part in np.split(np.arange(buckets.size), np.flatnonzero(np.diff(moved // _BATCH)) + 1):
            done = 0
            while done < part.size:
                rest = part[done:]
                fitted = self._move_batch(buckets[rest], capacity[rest], tail[rest])
                done += fitted
                if fitted < rest.size:
                    tail[rest[fitted]] *= 2

    def _move_batch(self, buckets: np.ndarray, capacity: np.ndarray, tail: np.ndarray) -> int:
        room = capacity + tail
        sizes = self._bytes(room)
        addresses = self._arena.allocate(sizes)
        new = np.stack([addresses, capacity // self._group], axis=1)
        done = move_buckets(self._homes, self._fill, self._shape, buckets, new, room)
        moved = buckets[:done]
        old, old_sizes = self._homes[moved, 0], self._bytes(self._fill[moved, 2])
        held = self._fill[moved, 2] > 0
        self._homes[moved] = new[:done]
        self._fill[moved, 1] = capacity[:done] * self.max_load
        self._fill[moved, 2] = room[:done]
        self._arena.free(
            np.concatenate([old[held], addresses[done:]]),
            np.concatenate([old_sizes[held], sizes[done:]]),
        )
        return done


def _looks(slot: int) -> tuple[int, int]:
    """Return the slots of a home group, and the bytes from the home on to ask for ahead."""
    if slot in (16, 32):  # a group is a line: its slots cost one miss together
        return 64 // slot, 128
    if slot < 64:
        return 1, 128
    # The row itself and the key of the next; of long rows the optimizer asks for the rest.
    return 1, min(slot + 8, 512)


def _flat(keys: np.ndarray) -> np.ndarray:
    if keys.dtype == np.uint64 and keys.flags.c_contiguous and keys.flags.writeable:
        return keys
    return np.require(keys, np.uint64, ["C", "W"])
