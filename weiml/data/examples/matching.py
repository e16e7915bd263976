"""Compiled loops that find rows for rows by key: equal ones, the last before, those in a window.

Keys are uint64; key 0 stands for "missing" and matches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import DataError
from weiml.hashing import cross_keys, hash_values, mix64

__all__ = [
    "KeyIndex",
    "SortedTimes",
    "attribute_clicks",
    "check_key",
    "key_of",
    "times_of",
    "window_sums",
]

_FREE = -1


def key_of(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Return a key for each row's values of `columns`: uint64 ``(n,)``, 0 where one is missing.

    The names of the columns do not matter, only their order.
    """
    keys: np.ndarray | None = None
    valid = np.ones(table.num_rows, np.bool_)
    for name in columns:
        column = table.column(name)
        if pa.types.is_temporal(column.type):
            column = column.cast(_INTEGERS[column.type.bit_width])
        if column.null_count:
            valid &= column.is_valid().to_numpy()
        hashed = hash_values("", column)
        keys = hashed if keys is None else cross_keys(keys, hashed)
    if keys is None:
        raise DataError("a key needs at least one column")
    return keys if valid.all() else np.where(valid, keys, np.uint64(0))


_INTEGERS = {32: pa.int32(), 64: pa.int64()}


def check_key(schema: pa.Schema, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the kind of each key column; kinds must be equal for keys to meet.

    Raises:
        DataError: a column is missing, or of a type that has no exact equality, such as floats.
    """
    kinds = []
    for name in columns:
        if name not in schema.names:
            raise DataError(f"no column {name!r}{nearest(name, schema.names)}")
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_integer(kind):
            kinds.append("integer")
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            kinds.append("string")
        elif pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
            kinds.append(str(kind))
        else:
            raise DataError(
                f"column {name!r} of type {kind} cannot be a key; keys are strings, integers, "
                "booleans or times: cast it"
            )
    return tuple(kinds)


def times_of(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of times as int64 ``(n,)``: seconds if it holds numbers, else its own unit.

    Raises:
        DataError: a time is missing.
    """
    times = table.column(column)
    if times.null_count:
        raise DataError(f"time column {column!r} has {times.null_count} missing values")
    if pa.types.is_timestamp(times.type):
        times = pc.cast(times, pa.timestamp("us", times.type.tz), safe=False)
    return times.cast(pa.int64()).to_numpy()


@dataclass(frozen=True)
class KeyIndex:
    """Where each key stands: chains of positions by key, in an open-addressing table."""

    keys: np.ndarray
    heads: np.ndarray
    following: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray) -> KeyIndex:
        """Index uint64 ``(m,)`` keys, repeats too."""
        return cls(keys, *_index(keys))

    def match(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every pair of equal keys as int64 positions: of `keys`, in order, and of ours."""
        lefts, rights = _match(keys, self.keys, self.heads, self.following)
        return lefts, rights


@numba.njit(nogil=True, cache=True)
def _index(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = 1 << 4
    while size < 2 * keys.size:
        size *= 2
    heads = np.full(size, _FREE, np.int64)
    following = np.full(keys.size, _FREE, np.int64)
    for i in range(keys.size - 1, -1, -1):  # from the end, so that chains run forward
        if keys[i] != 0:
            at = _slot(heads, keys, keys[i])
            following[i] = heads[at]
            heads[at] = i
    return heads, following


@numba.njit(nogil=True, cache=True)
def _slot(heads: np.ndarray, keys: np.ndarray, key: np.uint64) -> np.uint64:
    mask = np.uint64(heads.size - 1)
    at = mix64(key) & mask
    while heads[at] != _FREE and keys[heads[at]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@numba.njit(nogil=True, cache=True)
def _match(
    left: np.ndarray, right: np.ndarray, heads: np.ndarray, following: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first = np.full(left.size, _FREE, np.int64)
    total = 0
    for i in range(left.size):
        if left[i] != 0:
            first[i] = heads[_slot(heads, right, left[i])]
            r = first[i]
            while r != _FREE:
                total += 1
                r = following[r]
    lefts = np.empty(total, np.int64)
    rights = np.empty(total, np.int64)
    n = 0
    for i in range(left.size):
        r = first[i]
        while r != _FREE:
            lefts[n] = i
            rights[n] = r
            n += 1
            r = following[r]
    return lefts, rights


@dataclass(frozen=True)
class SortedTimes:
    """Rows by key and time, to find the last one before a moment."""

    keys: np.ndarray
    times: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, times: np.ndarray) -> SortedTimes:
        """Sort uint64 ``(m,)`` keys with int64 ``(m,)`` times; equal ones keep their order."""
        order = np.lexsort((times, keys))
        return cls(keys[order], times[order], order)

    def last_before(
        self, keys: np.ndarray, times: np.ndarray, *, same_time: bool, within: int | None
    ) -> np.ndarray:
        """Return the position of the last row of each key before each time.

        Args:
            keys: uint64 ``(n,)``.
            times: int64 ``(n,)``.
            same_time: whether a row of just that time counts.
            within: how long before it may be at most; any time if None.

        Returns:
            int64 ``(n,)``, -1 where there is none.
        """
        limit = np.iinfo(np.int64).max if within is None else within
        found: np.ndarray = _last_before(keys, times, self.keys, self.times, same_time, limit)
        known = found >= 0
        found[known] = self.order[found[known]]
        return found


@numba.njit(nogil=True, cache=True)
def _last_before(
    keys: np.ndarray,
    times: np.ndarray,
    past_keys: np.ndarray,
    past_times: np.ndarray,
    same_time: bool,
    within: int,
) -> np.ndarray:
    found = np.full(keys.size, -1, np.int64)
    for i in range(keys.size):
        if keys[i] == 0:
            continue
        low, high = 0, past_keys.size  # rows before low come before this key and time
        while low < high:
            middle = (low + high) // 2
            key, time = past_keys[middle], past_times[middle]
            if key < keys[i] or (
                key == keys[i] and (time < times[i] or (same_time and time == times[i]))
            ):
                low = middle + 1
            else:
                high = middle
        last = low - 1
        if last >= 0 and past_keys[last] == keys[i] and times[i] - past_times[last] <= within:
            found[i] = last
    return found


def window_sums(
    keys: np.ndarray, times: np.ndarray, values: np.ndarray, window: int | None, delay: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return count and sums of each key's rows within ``[time - window, time - delay)`` of each.

    Args:
        keys: uint64 ``(n,)``; rows of key 0 see nothing.
        times: int64 ``(n,)``, any order.
        values: float64 ``(n, m)``, to be summed.
        window: how far back to look, in the unit of `times`; to the beginning if None.
        delay: how long a row takes to be known.

    Returns:
        int64 ``(n,)`` and float64 ``(n, m)``. Sums are differences of running sums: exact where
        those are, as for counts and flags.
    """
    order = np.lexsort((times, keys))
    reach = np.iinfo(np.int64).max if window is None else window
    values = np.ascontiguousarray(values, np.float64)
    counts, sums = _window_sums(keys, times, order, values, reach, delay)
    return counts, sums


@numba.njit(nogil=True, cache=True)
def _window_sums(
    keys: np.ndarray,
    times: np.ndarray,
    order: np.ndarray,
    values: np.ndarray,
    window: int,
    delay: int,
) -> tuple[np.ndarray, np.ndarray]:
    n, m = values.shape
    counts = np.zeros(n, np.int64)
    sums = np.zeros((n, m), np.float64)
    upto = np.zeros((n + 1, m), np.float64)  # sums of a key's rows before a place in the order
    first = last = 0  # the window's rows are those from first up to, not including, last
    for place in range(n):
        row = order[place]
        if place == 0 or keys[row] != keys[order[place - 1]]:
            first = last = place
            upto[place] = 0.0
        upto[place + 1] = upto[place] + values[row]
        if keys[row] == 0:
            continue
        while times[order[last]] < times[row] - delay:
            last += 1
        while first < last and times[row] - times[order[first]] > window:
            first += 1
        counts[row] = last - first
        sums[row] = upto[last] - upto[first]
    return counts, sums


def attribute_clicks(
    keys: np.ndarray,
    times: np.ndarray,
    click_keys: np.ndarray,
    click_times: np.ndarray,
    within: int,
) -> np.ndarray:
    """Return how long after each impression its first click came, int64 ``(n,)``; -1 without one.

    A click belongs to the latest impression of its key that is not after it (the last one given,
    where several have that time), if that is at most `within` ago.
    """
    past = SortedTimes.of(keys, times)
    found = past.last_before(click_keys, click_times, same_time=True, within=within)
    clicked = found >= 0
    owner, delay = found[clicked], (click_times[clicked] - times[found[clicked]])
    delays = np.full(keys.size, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(delays, owner, delay)
    return np.where(delays == np.iinfo(np.int64).max, -1, delays)
