"""Which keys of a push get a row: those that admission lets in and that there is room for.

It stands before the rows of a table of which not every key gets one. One writer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from weiml.ps.partition import buckets_of_keys
from weiml.ps.rows.store import RowStore
from weiml.ps.tables.admission import AdmissionFilter, make_filter
from weiml.ps.tables.capacity import evicted_at_once, fitting, lowest, needed_rooms, share_of
from weiml.ps.tables.changes import hash_keys
from weiml.ps.tables.expiry import last_seen, squared_norms
from weiml.ps.tables.layout import RowLayout, as_occurrences

__all__ = ["Intake"]


class Intake:
    """Admission and capacity of one table.

    `delete` removes rows by key under a sequence number and says how many there were.

    Raises:
        ConfigError: the capacity is less than a row for each bucket.
    """

    def __init__(
        self, store: RowStore, layout: RowLayout, delete: Callable[[np.ndarray, int], int]
    ) -> None:
        config = layout.config
        self.admission: AdmissionFilter | None = None
        if config.admission is not None:
            self.admission = make_filter(config.admission, store.num_buckets)
        self.not_admitted = 0
        self.refused = 0
        self.evicted = 0
        self._store = store
        self._layout = layout
        self._delete = delete
        self._policy = config.capacity_policy
        self._share: int | None = None
        if config.capacity is not None:
            self._share = share_of(config.name, config.capacity, store.num_buckets)

    @property
    def open(self) -> bool:
        """Whether every key gets a row."""
        return self.admission is None and self._share is None

    def kept(
        self, keys: np.ndarray, sequence: int, counts: np.ndarray | None, *, offer: bool
    ) -> np.ndarray | slice:
        """Return the places of those `keys` uint64 (n,) that have a row or may get one now.

        `counts` float32 (n,) are their occurrences. Without `offer` they do not occur: admission
        lets none in. Rows may be deleted to make room.
        """
        missing = np.flatnonzero(self._store.find(keys) == 0)
        if not missing.size:
            return slice(None)
        kept = np.ones(keys.size, np.bool_)
        if self.admission is not None:
            admitted = np.zeros(missing.size, np.bool_)
            if offer:
                times = np.ones(keys.size, np.int64) if counts is None else as_occurrences(counts)
                admitted = self.admission.admit(keys[missing], sequence, times[missing])
                self.not_admitted += int(missing.size - admitted.sum())
            kept[missing[~admitted]] = False
            missing = missing[admitted]
        if self._share is not None and missing.size:
            fits = self._with_room(keys[missing], keys, sequence, self._share)
            self.refused += int(missing.size - fits.sum())
            kept[missing[~fits]] = False
        return np.flatnonzero(kept)

    def _with_room(
        self, new: np.ndarray, chunk: np.ndarray, sequence: int, share: int
    ) -> np.ndarray:
        """Return which new keys find room, once rows outside the chunk have made way: bool (n,)."""
        buckets = buckets_of_keys(new, self._store.num_buckets)
        rooms = share - self._store.bucket_counts()
        if self._policy != "refuse":
            lacking = needed_rooms(new, buckets, self._store.num_buckets) - rooms
            busy = np.sort(hash_keys(chunk))
            for bucket in np.flatnonzero(lacking > 0).tolist():
                number = max(int(lacking[bucket]), evicted_at_once(share))
                self.evicted += self._delete(self._least(bucket, number, busy), sequence)
            rooms = share - self._store.bucket_counts()
        return fitting(new, buckets, rooms)

    def _least(self, bucket: int, number: int, busy: np.ndarray) -> np.ndarray:
        """Return the keys of the least worthy rows of a bucket, none of sorted `busy` hashes."""
        keys, addresses = self._store.scan(bucket, bucket + 1)
        hashes = hash_keys(keys)
        at = np.minimum(np.searchsorted(busy, hashes), busy.size - 1)
        idle = np.flatnonzero(busy[at] != hashes)
        return keys[idle[lowest(self._worth(addresses[idle]), number)]]

    def _worth(self, addresses: np.ndarray) -> np.ndarray:
        if self._policy == "oldest":
            assert self._layout.last_seen is not None, "checked by TableConfig"
            return last_seen(addresses, self._layout.last_seen)
        return squared_norms(self._layout.weights(addresses))
