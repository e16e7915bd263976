"""Admission at the n-th occurrence, counted exactly in a side store of the keys that wait."""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np

from weiml.ps.partition import buckets_of_keys
from weiml.ps.rows.memory import load_u32, store_u32
from weiml.ps.rows.store import RowStore
from weiml.ps.tables.admission.base import LOG_BYTES, AdmissionFilter, bucket_mask
from weiml.ps.tables.changes import ChangeLog

__all__ = ["Count"]

_NO_BUCKETS = np.empty(0, np.int64)


@numba.njit(cache=True, nogil=True)
def _count(addresses: np.ndarray, occurrences: np.ndarray, need: int) -> np.ndarray:
    out = np.empty(addresses.size, np.bool_)
    for i in range(addresses.size):
        seen = min(np.int64(load_u32(addresses[i])) + occurrences[i], need)
        store_u32(addresses[i], np.uint32(seen))
        out[i] = seen >= need
    return out


class Count(AdmissionFilter):
    """Admits a key at its `need`-th occurrence and then forgets it: its row remembers."""

    def __init__(self, need: int, num_buckets: int) -> None:
        self._need = need
        self._waiting = RowStore(num_buckets, 1)
        self._log = ChangeLog(LOG_BYTES)

    @property
    def nbytes(self) -> int:
        """Bytes of the waiting keys and of the log."""
        return self._waiting.nbytes + self._log.nbytes

    def admit(self, keys: np.ndarray, sequence: int, occurrences: np.ndarray) -> np.ndarray:
        """See `AdmissionFilter.admit`."""
        addresses, _ = self._waiting.find_or_insert(keys)
        admitted = np.asarray(_count(addresses, occurrences, self._need))
        if admitted.any():
            self._waiting.delete(keys[admitted])
        self._log.add(sequence, keys)
        return admitted

    def extras(self, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return covers bool (num_buckets,), keys uint64 (n,) and their counts uint32 (n,)."""
        if buckets is None:
            buckets = np.flatnonzero(self._waiting.bucket_counts())
        covers = bucket_mask(buckets, self._waiting.num_buckets)
        parts = [self._waiting.scan(b, b + 1)[0] for b in np.flatnonzero(covers).tolist()]
        keys = np.concatenate([np.empty(0, np.uint64), *parts])
        return {"covers": covers, "keys": keys, "counts": self._counts(keys)}

    def delta(self, since: int, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the same, of the keys that occurred after `since`; a count of 0: waits no more."""
        num_buckets = self._waiting.num_buckets
        wanted = bucket_mask(buckets, num_buckets)
        keys = self._log.since(since)
        if keys is None:
            return self.extras(np.flatnonzero(wanted))
        if buckets is not None:
            keys = keys[wanted[buckets_of_keys(keys, num_buckets)]]
        covers = bucket_mask(_NO_BUCKETS, num_buckets)
        return {"covers": covers, "keys": keys, "counts": self._counts(keys)}

    def load(self, arrays: Mapping[str, np.ndarray], sequence: int) -> None:
        """Set the counts of covered buckets and of the keys told.

        Those of a filter with another number of buckets are added to what is there.
        """
        if arrays["covers"].size == self._waiting.num_buckets:
            self._waiting.clear(np.flatnonzero(arrays["covers"]))
        keys, counts = arrays["keys"], arrays["counts"].astype(np.uint32)
        self._waiting.delete(keys[counts == 0])
        addresses, _ = self._waiting.find_or_insert(keys[counts > 0])
        self._waiting.set_rows(addresses, counts[counts > 0].reshape(-1, 1))
        self._log.reset(max(sequence, self._log.last))

    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Forget the keys that wait in `buckets`."""
        self._waiting.clear(buckets)
        self._log.drop(bucket_mask(buckets, self._waiting.num_buckets))

    def _counts(self, keys: np.ndarray) -> np.ndarray:
        return self._waiting.rows(self._waiting.find(keys))[:, 0]
