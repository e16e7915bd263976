"""How often the keys of a slot come, in bounded memory: what a slot's vocabulary is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from weiml.features import Batch

__all__ = ["CAPACITY", "KeyCounts", "count_slots"]

CAPACITY = 1 << 20
_FEW = 1 << 16  # keys that wait until they are made distinct


class KeyCounts:
    """Counts of the most frequent keys of one slot. Picklable; not thread-safe.

    Up to `CAPACITY` distinct keys are counted exactly, and then merging in any order gives the
    same. Above, the count of the key that no longer fits is taken off all others (Misra and Gries,
    1982), which leaves frequent keys in.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.most_in_example = 0
        """Keys of the slot that one example had at most."""
        self.valued = False
        """Whether any key had another value than 1."""
        self._capacity = capacity
        self._keys = np.empty(0, np.uint64)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0

    def add(self, keys: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Take in keys uint64 (n,), each once or with its count int64 (n,)."""
        if counts is None:
            keys, counts = np.unique(keys, return_counts=True)
        self._waiting.append((keys, counts))
        self._num_waiting += keys.size
        if self._num_waiting > max(_FEW, self._keys.size):
            self._settle()

    def merge(self, other: KeyCounts) -> None:
        """Take in what another has seen."""
        other._settle()
        self.add(other._keys, other._counts)
        self.most_in_example = max(self.most_in_example, other.most_in_example)
        self.valued |= other.valued

    def most_frequent(self, count: int) -> np.ndarray:
        """Return up to `count` keys uint64, the most frequent first, equal ones by key."""
        self._settle()
        order = np.lexsort((self._keys, -self._counts))
        return self._keys[order[:count]]

    def _settle(self) -> None:
        if not self._waiting:
            return
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._waiting)])
        self._keys, place = np.unique(keys, return_inverse=True)
        self._counts = np.zeros(self._keys.size, np.int64)
        np.add.at(self._counts, place, counts)
        self._waiting, self._num_waiting = [], 0
        over = self._keys.size - self._capacity
        if over > 0:
            self._counts -= np.partition(self._counts, over - 1)[over - 1]
            self._keys = self._keys[self._counts > 0]
            self._counts = self._counts[self._counts > 0]


def count_slots(batch: Batch, counts: Sequence[KeyCounts]) -> None:
    """Add a batch's keys to the counts of its slots, in their order."""
    num_slots = len(batch.slots)
    for s, counted in enumerate(counts):
        keys, most, valued = _slot_keys(batch.keys, batch.values, batch.offsets, num_slots, s)
        counted.add(keys)
        counted.most_in_example = max(counted.most_in_example, most)
        counted.valued |= valued


@numba.njit(nogil=True, cache=True)
def _slot_keys(
    keys: np.ndarray, values: np.ndarray | None, offsets: np.ndarray, num_slots: int, slot: int
) -> tuple[np.ndarray, int, bool]:
    """Return a slot's keys, how many an example has at most, and if any has a value but 1."""
    total = most = 0
    for cell in range(slot, offsets.size - 1, num_slots):
        length = offsets[cell + 1] - offsets[cell]
        total += length
        most = max(most, length)
    out = np.empty(total, np.uint64)
    valued = False
    at = 0
    for cell in range(slot, offsets.size - 1, num_slots):
        for j in range(offsets[cell], offsets[cell + 1]):
            out[at] = keys[j]
            if values is not None:
                valued |= values[j] != 1
            at += 1
    return out, most, valued
