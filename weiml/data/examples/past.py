"""What came before: the last row of a key, what a window held, the impression that a click is for.

Key 0 stands for "missing": such rows see nothing, and nothing sees them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = ["SortedTimes", "attribute_clicks", "window_sums"]

_FREE = -1


@dataclass(frozen=True)
class SortedTimes:
    """Rows grouped by key and, within a key, sorted by time; equal times keep their order.

    Grouping counts instead of comparing, so it costs two passes over the rows and a sort of the
    times, where those are not in order already.
    """

    keys: np.ndarray
    """uint64 ``(m,)``, as given."""
    heads: np.ndarray
    """An open-addressing table of groups."""
    first: np.ndarray
    """int64 ``(groups,)``: a row of each group, by which the table knows its key."""
    starts: np.ndarray
    """int64 ``(groups + 1,)``: where each group begins in the order."""
    order: np.ndarray
    """int64 ``(m,)``: rows by group and time."""
    times: np.ndarray
    """int64 ``(m,)``, in that order."""

    @classmethod
    def of(cls, keys: np.ndarray, times: np.ndarray) -> SortedTimes:
        """Group uint64 ``(m,)`` keys with int64 ``(m,)`` times."""
        if (times[1:] >= times[:-1]).all():
            by_time = np.arange(times.size)
        else:
            by_time = np.argsort(times, kind="stable")
        heads, first, starts, order = _group(keys, by_time)
        return cls(keys, heads, first, starts, order, times[order])

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
        groups = _find_groups(keys, self.keys, self.heads, self.first)
        found = _last_before(groups, times, self.starts, self.order, self.times, same_time, limit)
        return np.asarray(found)


@numba.njit(nogil=True, cache=True)
def _group(
    keys: np.ndarray, by_time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    size = 1 << 4
    while size < 2 * keys.size:
        size *= 2
    heads = np.full(size, _FREE, np.int64)
    first = np.empty(keys.size, np.int64)
    groups = np.empty(keys.size, np.int64)
    count = 0
    for i in range(keys.size):
        at = _group_slot(heads, first, keys, keys[i])
        if heads[at] == _FREE:
            heads[at] = count
            first[count] = i
            count += 1
        groups[i] = heads[at]
    starts = np.zeros(count + 1, np.int64)
    for i in range(keys.size):
        starts[groups[i] + 1] += 1
    for group in range(count):
        starts[group + 1] += starts[group]
    following = starts[:-1].copy()
    order = np.empty(keys.size, np.int64)
    for i in by_time:
        order[following[groups[i]]] = i
        following[groups[i]] += 1
    return heads, first[:count], starts, order


@numba.njit(nogil=True, cache=True)
def _group_slot(
    heads: np.ndarray, first: np.ndarray, keys: np.ndarray, key: np.uint64
) -> np.uint64:
    mask = np.uint64(heads.size - 1)
    at = mix64(key) & mask
    while heads[at] != _FREE and keys[first[heads[at]]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@numba.njit(nogil=True, cache=True)
def _find_groups(
    asked: np.ndarray, keys: np.ndarray, heads: np.ndarray, first: np.ndarray
) -> np.ndarray:
    groups = np.full(asked.size, _FREE, np.int64)
    for i in range(asked.size):
        if asked[i] != 0:
            groups[i] = heads[_group_slot(heads, first, keys, asked[i])]
    return groups


@numba.njit(nogil=True, cache=True)
def _last_before(
    groups: np.ndarray,
    times: np.ndarray,
    starts: np.ndarray,
    order: np.ndarray,
    past_times: np.ndarray,
    same_time: bool,
    within: int,
) -> np.ndarray:
    found = np.full(groups.size, -1, np.int64)
    for i in range(groups.size):
        if groups[i] == _FREE:
            continue
        start = low = starts[groups[i]]
        high = starts[groups[i] + 1]
        while low < high:  # what stands before low comes before this time
            middle = (low + high) // 2
            then = past_times[middle]
            if then < times[i] or (same_time and then == times[i]):
                low = middle + 1
            else:
                high = middle
        if low > start and times[i] - past_times[low - 1] <= within:
            found[i] = order[low - 1]
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
        int64 ``(n,)`` and float64 ``(n, m)``. Sums are differences of running sums, which carry
        what rounding takes from them (Knuth's TwoSum), so that large numbers spoil no later ones.
    """
    grouped = SortedTimes.of(keys, times)
    reach = np.iinfo(np.int64).max if window is None else window
    values = np.ascontiguousarray(values, np.float64)
    counts, sums = _window_sums(
        keys, grouped.starts, grouped.order, grouped.times, values, reach, delay
    )
    return counts, sums


@numba.njit(nogil=True, cache=True)
def _window_sums(
    keys: np.ndarray,
    starts: np.ndarray,
    order: np.ndarray,
    times: np.ndarray,
    values: np.ndarray,
    window: int,
    delay: int,
) -> tuple[np.ndarray, np.ndarray]:
    n, m = values.shape
    counts = np.zeros(n, np.int64)
    sums = np.zeros((n, m), np.float64)
    upto = np.zeros((n + 1, m), np.float64)  # sums of a group's rows before a place in the order
    lost = np.zeros((n + 1, m), np.float64)  # and what rounding took from them
    for group in range(starts.size - 1):
        start, stop = starts[group], starts[group + 1]
        if keys[order[start]] == 0:
            continue
        first = last = start  # the window's rows are those from first up to, not including, last
        upto[start] = 0.0
        lost[start] = 0.0
        for place in range(start, stop):
            row, now = order[place], times[place]
            for j in range(m):
                before, value = upto[place, j], values[row, j]
                total = before + value
                taken = total - before
                rounding = (before - (total - taken)) + (value - taken)
                lost[place + 1, j] = lost[place, j] + rounding
                upto[place + 1, j] = total
            while times[last] < now - delay:
                last += 1
            while first < last and now - times[first] > window:
                first += 1
            counts[row] = last - first
            for j in range(m):
                sums[row, j] = (upto[last, j] - upto[first, j]) + (lost[last, j] - lost[first, j])
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
