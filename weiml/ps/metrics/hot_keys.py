"""Which keys are asked for most: a summary of bounded size, fed with a sample of the requests.

It knows keys and nothing of tables, rows or shards. Clients send a key at most once a request, so a
key's count is in how many requests it was; one that is in all of them is sure to stand out while a
request has fewer keys than the summary has room for.

Misra and Gries, "Finding repeated elements", Science of Computer Programming 2, 1982; merged as in
Agarwal et al., "Mergeable summaries", PODS 2012, who also show that Space-Saving holds the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from weiml.ps.dedup import unique_keys

__all__ = ["HotKeys", "KeySampler"]

_CAPACITY = 16_384  # above the distinct keys of a usual request, or all look alike
_SAMPLES = 8_192  # about as many keys are added to the summary at once
_SAMPLES_A_SECOND = 16_384.0
_LARGEST_STRIDE = 1 << 16
_HALF_LIFE_S = 60.0
_FORGOTTEN = 0.01  # of a request


class HotKeys:
    """Counts of the keys that occur most; at most `capacity` of them are kept.

    With f the true weight of a key and f̂ what is kept of it (0 if nothing is):
    ``f̂ ≤ f ≤ f̂ + error`` and ``error ≤ total / (capacity + 1)``, however keys were added, scaled
    and merged. So every key with more than that share of the total is among those kept.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self.capacity = capacity
        self.total = 0.0
        """The weight of all keys that were added."""
        self.error = 0.0
        """How much more a key may weigh than what is kept of it."""
        self._keys = np.empty(0, np.uint64)
        self._weights = np.empty(0, np.float64)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: np.ndarray, weight: float = 1.0) -> None:
        """Count each of `keys` uint64 (n,), repeated ones as often as they stand."""
        self.total += weight * len(keys)
        self._take(keys, np.full(len(keys), weight))

    def merge(self, other: HotKeys) -> None:
        """Count all that another summary has counted."""
        self.total += other.total
        self.error += other.error
        self._take(other._keys, other._weights)

    def scale(self, factor: float) -> None:
        """Multiply all that was counted so far, as if it had weighed so much less."""
        self.total *= factor
        self.error *= factor
        self._weights = self._weights * factor

    def top(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k heaviest (keys uint64, kept weights float64), the heaviest first."""
        best = np.lexsort((self._keys, -self._weights))[:k]
        return self._keys[best], self._weights[best]

    def _take(self, keys: np.ndarray, weights: np.ndarray) -> None:
        distinct, at = unique_keys(np.concatenate([self._keys, keys]))
        sums: np.ndarray = np.bincount(at, np.concatenate([self._weights, weights]), len(distinct))
        if len(distinct) > self.capacity:
            # capacity + 1 counters lose at least `cut` each: that is what bounds the error.
            cut = np.partition(sums, -self.capacity - 1)[-self.capacity - 1]
            self.error += float(cut)
            kept = sums > cut
            distinct, sums = distinct[kept], sums[kept] - cut
        self._keys, self._weights = distinct, sums


class KeySampler:
    """Sees the keys of every request and counts a share of them that costs next to nothing.

    Every `stride`-th key of a request is counted, from a place that is drawn anew, so each key has
    the same chance; the stride follows the load. What lies a minute back counts half.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stride = 1
        self.keys = 0
        """All keys seen, exactly."""
        self._clock = clock
        self._hot = HotKeys()
        self._requests = 0.0
        self._buffer = np.empty(2 * _SAMPLES, np.uint64)
        self._filled = 0
        self._random = 1
        self._adapted_at = self._faded_at = clock()

    def see(self, keys: np.ndarray) -> None:
        """Take note of the keys uint64 (n,) of a request."""
        self.keys += len(keys)
        self._requests += 1.0
        stride = self.stride
        if len(keys) > _SAMPLES * stride:
            self._fold()  # what waits was counted with another stride
            stride = self.stride = _power_of_two(len(keys) / _SAMPLES)
        if stride > 1:
            # Lehmer's generator, modulo the prime 2³¹ - 1: a library's would cost more to ask.
            self._random = self._random * 48271 % 0x7FFFFFFF
            keys = keys[self._random % stride :: stride]
        filled = self._filled + len(keys)
        self._buffer[self._filled : filled] = keys
        self._filled = filled
        if filled >= _SAMPLES:
            self._fold()
            self._adapt(filled)

    def look(self) -> tuple[HotKeys, float]:
        """Return the summary and in how many requests its keys were, both faded alike."""
        self._fold()
        now = self._clock()
        while now - self._faded_at >= _HALF_LIFE_S:
            self._hot.scale(0.5)
            self._requests *= 0.5
            self._faded_at += _HALF_LIFE_S
        if self._requests < _FORGOTTEN:
            self._hot, self._requests = HotKeys(), 0.0
        return self._hot, self._requests

    def _fold(self) -> None:
        self._hot.add(self._buffer[: self._filled], float(self.stride))
        self._filled = 0

    def _adapt(self, samples: int) -> None:
        now = self._clock()
        keys_a_second = samples * self.stride / max(now - self._adapted_at, 1e-6)
        self._adapted_at = now
        self.stride = min(_power_of_two(keys_a_second / _SAMPLES_A_SECOND), _LARGEST_STRIDE)


def _power_of_two(least: float) -> int:
    return 1 << max(math.ceil(least) - 1, 0).bit_length()
