"""Sums by key and pane of event time, in memory: a hash table of keys, a list of panes each.

A pane is a stretch of event time of fixed length; windows are runs of panes (Li et al., No Pane, No
Gain, SIGMOD Record 2005). Each key's panes form a list from the newest to the oldest, so an event
that comes in order finds its pane at the head, and a window is the front of a list.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = ["PaneStore"]

_NONE = -1


class PaneStore:
    """Sums of m numbers by (key, pane). Not thread-safe.

    Keys are numbered densely in the order in which they came; `compact` numbers them anew.

    Args:
        width: m.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.num_keys = 0
        self.num_panes = 0
        """Pairs of key and pane."""
        self._slots = np.full(1 << 10, _NONE, np.int32)
        self._keys = np.empty(1 << 9, np.uint64)
        self._heads = np.empty(1 << 9, np.int32)
        self._panes = np.empty(1 << 10, np.int64)
        self._next = np.empty(1 << 10, np.int32)
        self._sums = np.empty((1 << 10, width), np.float64)

    @property
    def keys(self) -> np.ndarray:
        """Keys by number: uint64 ``(num_keys,)``."""
        return self._keys[: self.num_keys]

    def add(self, keys: np.ndarray, panes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Add values to sums, one after the other; return where new keys came: int64 ``(new,)``.

        Args:
            keys: uint64 ``(n,)``.
            panes: int64 ``(n,)``.
            values: float64 ``(n, m)``.

        Returns:
            The index of the first event of each key that was not there, in the order of their
            numbers.
        """
        self._reserve(len(keys))
        before = self.num_keys
        new = np.empty(len(keys), np.int64)
        self.num_keys, self.num_panes = _add(
            self._slots, self._keys, self._heads, self._panes, self._next, self._sums,
            before, self.num_panes, keys, panes, values, new,
        )  # fmt: skip
        return new[: self.num_keys - before]

    def find(self, keys: np.ndarray, until: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return sums over runs of panes: float64 ``(n, windows, m)``; 0 where there is nothing.

        Args:
            keys: uint64 ``(n,)``.
            until: int64 ``(n,)``, the pane that each run ends before.
            lengths: int64 ``(windows,)``, panes in a run, rising.
        """
        return _find(
            self._slots, self._keys, self._heads, self._panes, self._next, self._sums,
            keys, until, lengths,
        )  # fmt: skip

    def window(self, until: int, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of keys with a pane in the longest run before `until`, and sums.

        Returns:
            int64 ``(found,)`` and float64 ``(found, windows, m)``.
        """
        numbers, sums = _window(
            self._heads[: self.num_keys], self._panes, self._next, self._sums, until, lengths
        )
        return numbers, sums

    def compact(self, first: int) -> np.ndarray:
        """Forget panes before `first` and keys without panes; return the old numbers of the rest.

        Returns:
            int64 ``(num_keys,)``, rising: the new number of a key is its place here.
        """
        kept, counts, panes, sums = self._flat(first)
        keys = self._keys[kept]
        self._fill(keys, counts, panes, sums)
        return kept

    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all that is held: number of panes of each key, their panes and sums.

        Returns:
            int64 ``(num_keys,)``, int64 ``(num_panes,)``, float64 ``(num_panes, m)``, by key in
            the order of their numbers and then from new to old.
        """
        _, counts, panes, sums = self._flat(np.iinfo(np.int64).min)
        return counts, panes, sums

    @classmethod
    def of_flat(
        cls, keys: np.ndarray, counts: np.ndarray, panes: np.ndarray, sums: np.ndarray
    ) -> PaneStore:
        """Return a store of what `keys` and `flat` gave."""
        store = cls(sums.shape[1])
        store._fill(keys, counts, panes, sums)
        return store

    def _flat(self, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return _flat(
            self._heads[: self.num_keys], self._panes, self._next, self._sums,
            self.num_panes, first,
        )  # fmt: skip

    def _fill(
        self, keys: np.ndarray, counts: np.ndarray, panes: np.ndarray, sums: np.ndarray
    ) -> None:
        """Hold keys without repeats, the panes of each from new to old."""
        n, total = len(keys), len(panes)
        self.num_keys, self.num_panes = n, total
        self._keys = np.empty(_room(n), np.uint64)
        self._keys[:n] = keys
        self._panes = np.empty(_room(total), np.int64)
        self._panes[:total] = panes
        self._sums = np.empty((_room(total), self.width), np.float64)
        self._sums[:total] = sums
        self._next = np.empty(_room(total), np.int32)
        self._next[:total] = np.arange(1, total + 1)
        ends = np.cumsum(counts)
        self._next[ends - 1] = _NONE
        self._heads = np.empty(_room(n), np.int32)
        self._heads[:n] = ends - counts
        self._slots = _index(self._keys[:n], 2 * _room(n))

    def _reserve(self, more: int) -> None:
        if self.num_keys + more > len(self._keys):
            size = _room(self.num_keys + more)
            self._keys = _grown(self._keys, size)
            self._heads = _grown(self._heads, size)
            self._slots = _index(self._keys[: self.num_keys], 2 * size)
        if self.num_panes + more > len(self._panes):
            size = _room(self.num_panes + more)
            self._panes = _grown(self._panes, size)
            self._next = _grown(self._next, size)
            self._sums = _grown(self._sums, size)


def _room(n: int) -> int:
    """Return how many entries to make room for: a power of two above n."""
    return 1 << max(9, n.bit_length())


def _grown(array: np.ndarray, size: int) -> np.ndarray:
    grown = np.empty((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


@numba.njit(nogil=True, inline="always")
def _slot(slots: np.ndarray, all_keys: np.ndarray, key: np.uint64) -> np.uint64:
    """Return where the key's number stands, or the free place where it belongs."""
    mask = np.uint64(slots.size - 1)
    at = mix64(key) & mask
    while slots[at] >= 0 and all_keys[slots[at]] != key:
        at = (at + np.uint64(1)) & mask
    return at


@numba.njit(nogil=True, cache=True)
def _index(keys: np.ndarray, size: int) -> np.ndarray:
    slots = np.full(size, -1, np.int32)
    for number in range(keys.size):
        slots[_slot(slots, keys, keys[number])] = number
    return slots


@numba.njit(nogil=True, cache=True)
def _add(
    slots: np.ndarray,
    all_keys: np.ndarray,
    heads: np.ndarray,
    all_panes: np.ndarray,
    following: np.ndarray,
    sums: np.ndarray,
    num_keys: int,
    num_panes: int,
    keys: np.ndarray,
    panes: np.ndarray,
    values: np.ndarray,
    new: np.ndarray,
) -> tuple[int, int]:
    first = num_keys
    for i in range(keys.size):
        at = _slot(slots, all_keys, keys[i])
        number = slots[at]
        if number < 0:
            number = np.int32(num_keys)
            slots[at] = number
            all_keys[number] = keys[i]
            heads[number] = -1
            new[num_keys - first] = i
            num_keys += 1
        before, node = -1, heads[number]
        while node >= 0 and all_panes[node] > panes[i]:
            before, node = node, following[node]
        if node < 0 or all_panes[node] != panes[i]:
            following[num_panes] = node
            all_panes[num_panes] = panes[i]
            sums[num_panes] = 0.0
            node = num_panes
            num_panes += 1
            if before < 0:
                heads[number] = node
            else:
                following[before] = node
        for j in range(values.shape[1]):
            sums[node, j] += values[i, j]
    return num_keys, num_panes


@numba.njit(nogil=True, inline="always")
def _sum_runs(
    node: int,
    all_panes: np.ndarray,
    following: np.ndarray,
    sums: np.ndarray,
    until: int,
    lengths: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Sum the runs of one key into `out`; say whether the longest has a pane."""
    while node >= 0 and all_panes[node] >= until:
        node = following[node]
    found = False
    for w in range(lengths.size):  # rising: each run goes on from the one before
        if w > 0:
            out[w] = out[w - 1]
        while node >= 0 and all_panes[node] >= until - lengths[w]:
            found = True
            for j in range(out.shape[1]):
                out[w, j] += sums[node, j]
            node = following[node]
    return found


@numba.njit(nogil=True, cache=True)
def _find(
    slots: np.ndarray,
    all_keys: np.ndarray,
    heads: np.ndarray,
    all_panes: np.ndarray,
    following: np.ndarray,
    sums: np.ndarray,
    keys: np.ndarray,
    until: np.ndarray,
    lengths: np.ndarray,
) -> np.ndarray:
    out = np.zeros((keys.size, lengths.size, sums.shape[1]), np.float64)
    for i in range(keys.size):
        number = slots[_slot(slots, all_keys, keys[i])]
        if number >= 0:
            _sum_runs(heads[number], all_panes, following, sums, until[i], lengths, out[i])
    return out


@numba.njit(nogil=True, cache=True)
def _window(
    heads: np.ndarray,
    all_panes: np.ndarray,
    following: np.ndarray,
    sums: np.ndarray,
    until: int,
    lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.empty(heads.size, np.int64)
    out = np.zeros((heads.size, lengths.size, sums.shape[1]), np.float64)
    found = 0
    for number in range(heads.size):
        if _sum_runs(heads[number], all_panes, following, sums, until, lengths, out[found]):
            numbers[found] = number
            found += 1
    return numbers[:found], out[:found]


@numba.njit(nogil=True, cache=True)
def _flat(
    heads: np.ndarray,
    all_panes: np.ndarray,
    following: np.ndarray,
    sums: np.ndarray,
    num_panes: int,
    first: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    kept = np.empty(heads.size, np.int64)
    counts = np.zeros(heads.size, np.int64)
    panes = np.empty(num_panes, np.int64)
    out = np.empty((num_panes, sums.shape[1]), np.float64)
    keys = total = 0
    for number in range(heads.size):
        node = heads[number]
        start = total
        while node >= 0 and all_panes[node] >= first:
            panes[total] = all_panes[node]
            out[total] = sums[node]
            total += 1
            node = following[node]
        if total > start:
            kept[keys] = number
            counts[keys] = total - start
            keys += 1
    return kept[:keys], counts[:keys], panes[:total].copy(), out[:total].copy()
