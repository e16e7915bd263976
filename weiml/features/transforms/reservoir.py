"""A sample of examples that depends on the examples alone: not on their order, nor on parts.

Of the *distinct* examples those with the smallest hashes are kept, each with how often it came
(bottom-k sampling; E. Cohen and H. Kaplan, PODC 2007). Which ones are kept does not depend on how
often they came, so with counts as weights the sample is fair. An example that ends up in the sample
of a union was in the samples of its parts all along, so merging is exact.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.hashing import mix64

__all__ = ["Reservoir"]

_SPREAD = np.uint64(0x9E37_79B9_7F4A_7C15)


class Reservoir:
    """Up to `size` distinct examples of d numbers and a class. Not thread-safe; picklable.

    Two different examples of one 64-bit hash would count as one.
    """

    def __init__(self, size: int, width: int) -> None:
        if size < 1:
            raise ConfigError(f"a reservoir keeps at least 1 example, got size = {size}")
        self.size = size
        self.hashes = np.empty(0, np.uint64)
        """In rising order: uint64 ``(n,)``."""
        self.numbers = np.empty((0, width))
        """float64 ``(n, width)``, NaN where missing."""
        self.classes = np.empty(0, np.uint64)
        self.counts = np.empty(0, np.int64)

    def add(self, numbers: np.ndarray, classes: np.ndarray) -> None:
        """Take in examples: numbers float64 ``(B, width)``, classes uint64 ``(B,)``."""
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)  # one NaN, and no −0
        hashes = _hash_rows(np.ascontiguousarray(numbers).view(np.uint64), classes)
        if self.hashes.size == self.size:
            kept = hashes <= self.hashes[-1]
            hashes, numbers, classes = hashes[kept], numbers[kept], classes[kept]
        self._take(hashes, numbers, classes, np.ones(hashes.size, np.int64))

    def merge(self, other: Reservoir) -> None:
        """Take in what another reservoir of the same size has seen."""
        self._take(other.hashes, other.numbers, other.classes, other.counts)

    def _take(
        self, hashes: np.ndarray, numbers: np.ndarray, classes: np.ndarray, counts: np.ndarray
    ) -> None:
        both = np.concatenate([self.hashes, hashes])
        distinct, first, group = np.unique(both, return_index=True, return_inverse=True)
        sums = np.zeros(distinct.size, np.int64)
        np.add.at(sums, group, np.concatenate([self.counts, counts]))
        first = first[: self.size]
        self.hashes, self.counts = distinct[: self.size], sums[: self.size]
        self.numbers = np.concatenate([self.numbers, numbers])[first]
        self.classes = np.concatenate([self.classes, classes])[first]


@numba.njit(nogil=True, cache=True)
def _hash_rows(bits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    out = np.empty(classes.size, np.uint64)
    for i in range(classes.size):
        h = mix64(classes[i])
        for j in range(bits.shape[1]):
            h = mix64(h * _SPREAD + bits[i, j])
        out[i] = h
    return out
