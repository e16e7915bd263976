"""Admission by chance: a row for each occurrence with a fixed probability; nothing is kept.

"Poisson inclusion" in McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013.
"""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.tables.admission.base import AdmissionFilter

__all__ = ["Chance"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.int64(1)


@numba.njit(cache=True, nogil=True)
def _draw(
    keys: np.ndarray, occurrences: np.ndarray, sequence: np.uint64, refusal: float
) -> np.ndarray:
    out = np.empty(keys.size, np.bool_)
    salt = mix64(sequence + _GOLDEN)
    for i in range(keys.size):
        uniform = np.float64(mix64(keys[i] ^ salt) >> np.uint64(11)) * 2.0**-53
        # A power by squaring: products alone have the same bits everywhere.
        chance = 1.0
        factor = refusal
        left = occurrences[i]
        while left > 0:
            if left & _ONE:
                chance *= factor
            factor *= factor
            left >>= _ONE
        out[i] = uniform >= chance
    return out


class Chance(AdmissionFilter):
    """Admits an occurrence with a chance; key and sequence number alone decide."""

    def __init__(self, probability: float) -> None:
        self._refusal = 1.0 - probability

    @property
    def nbytes(self) -> int:
        """Nothing is kept."""
        return 0

    def admit(self, keys: np.ndarray, sequence: int, occurrences: np.ndarray) -> np.ndarray:
        """See `AdmissionFilter.admit`; a key that a push repeats is drawn once."""
        return np.asarray(_draw(keys, occurrences, np.uint64(sequence), self._refusal))

    def extras(self, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}

    def delta(self, since: int, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return nothing."""
        return {}

    def load(self, arrays: Mapping[str, np.ndarray], sequence: int) -> None:
        """Do nothing."""

    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Do nothing."""
