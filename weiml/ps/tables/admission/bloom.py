"""Admission at the n-th occurrence, counted in a counting Bloom filter of fixed size.

Fan, Cao, Almeida and Broder, "Summary cache: a scalable wide-area web cache sharing protocol",
SIGCOMM 1998, with the conservative update of Estan and Varghese, "New directions in traffic
measurement and accounting", SIGCOMM 2002. It may count too many, never too few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.admission.base import LOG_BYTES, AdmissionConfig, AdmissionFilter, bucket_mask
from weiml.ps.tables.changes import ChangeLog

__all__ = ["Bloom"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(inline="always")
def _cell(key: np.uint64, probe: int, cells: int) -> np.int64:
    h = mix64(key + np.uint64(probe + 1) * _GOLDEN)
    return np.int64(((h >> np.uint64(32)) * np.uint64(cells)) >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def _raise_cells(
    keys: np.ndarray,
    occurrences: np.ndarray,
    buckets: np.ndarray,
    cells: np.ndarray,
    seen: np.ndarray,
    probes: int,
    need: int,
    room: int,
    full: np.ndarray,
) -> np.ndarray:
    """Count occurrences; note in `full` bool (buckets,) those that saw more than `room` keys.

    Conservative update: only those of a key's cells are raised that are below its new count.
    """
    out = np.empty(keys.size, np.bool_)
    places = np.empty(probes, np.int64)
    for i in range(keys.size):
        bucket = buckets[i]
        least = np.int64(need)
        for p in range(probes):
            places[p] = _cell(keys[i], p, cells.shape[1])
            least = min(least, np.int64(cells[bucket, places[p]]))
        if least == 0:
            seen[bucket] += 1
            full[bucket] |= seen[bucket] > room
        count = min(least + occurrences[i], need)
        for p in range(probes):
            if cells[bucket, places[p]] < count:
                cells[bucket, places[p]] = count
        out[i] = count >= need
    return out


@numba.njit(cache=True, nogil=True)
def _read_cells(
    keys: np.ndarray, buckets: np.ndarray, cells: np.ndarray, probes: int
) -> np.ndarray:
    out = np.empty((keys.size, probes), cells.dtype)
    for i in range(keys.size):
        for p in range(probes):
            out[i, p] = cells[buckets[i], _cell(keys[i], p, cells.shape[1])]
    return out


@numba.njit(cache=True, nogil=True)
def _write_cells(
    keys: np.ndarray, buckets: np.ndarray, cells: np.ndarray, values: np.ndarray
) -> None:
    for i in range(keys.size):
        for p in range(values.shape[1]):
            cells[buckets[i], _cell(keys[i], p, cells.shape[1])] = values[i, p]


class Bloom(AdmissionFilter):
    """One counting Bloom filter a bucket, each for an equal share of the expected keys."""

    def __init__(self, config: AdmissionConfig, num_buckets: int) -> None:
        assert config.expected_keys is not None, "checked by AdmissionConfig"
        share = config.expected_keys / num_buckets
        # Buckets differ by chance; four standard deviations more fit into each.
        self._room = math.ceil(share + 4 * math.sqrt(share))
        bits = -math.log(config.false_positive_rate) / math.log(2)
        self._probes = max(round(bits), 1)
        self._need = config.min_count
        self._width = max(math.ceil(self._room * bits / math.log(2)), 8)
        kind = np.uint8 if config.min_count <= 255 else np.uint16
        # Fresh zeros take no memory, so buckets of other shards cost nothing.
        self._cells = np.zeros((num_buckets, self._width), kind)
        self._seen = np.zeros(num_buckets, np.int64)
        self._halved = np.zeros(num_buckets, np.int64)  # the sequence number of the last time
        self._log = ChangeLog(LOG_BYTES)

    @property
    def nbytes(self) -> int:
        """Bytes of all cells, though untouched ones take no memory, and of the log."""
        return self._cells.nbytes + self._log.nbytes

    def admit(self, keys: np.ndarray, sequence: int, occurrences: np.ndarray) -> np.ndarray:
        """See `AdmissionFilter.admit`."""
        full = np.zeros(len(self._seen), np.bool_)
        admitted = _raise_cells(
            keys,
            occurrences,
            self._buckets(keys),
            self._cells,
            self._seen,
            self._probes,
            self._need,
            self._room,
            full,
        )
        self._log.add(sequence, keys)
        for bucket in np.flatnonzero(full):
            self._halve(int(bucket), sequence)
        return np.asarray(admitted)

    def extras(self, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return covers bool (num_buckets,), and the buckets' cells and numbers of keys seen."""
        if buckets is None:
            buckets = np.flatnonzero(self._seen)
        return self._export(bucket_mask(buckets, len(self._seen)), np.empty(0, np.uint64))

    def delta(self, since: int, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the cells of keys that occurred after `since`, and buckets that were halved."""
        wanted = bucket_mask(buckets, len(self._seen))
        keys = self._log.since(since)
        if keys is None:
            return self._export(wanted, np.empty(0, np.uint64))
        whole = self._halved > since
        return self._export(wanted & whole, keys[(wanted & ~whole)[self._buckets(keys)]])

    def load(self, arrays: Mapping[str, np.ndarray], sequence: int) -> None:
        """Set covered buckets, and the cells of the keys told.

        What a filter of another shape knew is of no use to this one: it goes on as it is.
        """
        if arrays["covers"].size != len(self._seen) or arrays["cells"].shape[1] != self._width:
            return
        self._clear(arrays["covers"])
        self._cells[arrays["buckets"]] = arrays["cells"]
        keys = np.require(arrays["keys"], np.uint64, ["C", "W"])
        values = np.require(arrays["values"], self._cells.dtype, ["C", "W"])
        _write_cells(keys, self._buckets(keys), self._cells, values)
        told = arrays["seen"] >= 0
        self._seen[told] = arrays["seen"][told]
        self._log.reset(max(sequence, self._log.last))

    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Set the cells of `buckets` to 0."""
        gone = bucket_mask(buckets, len(self._seen))
        self._clear(gone)
        self._log.drop(gone)

    def _export(self, covers: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        buckets = np.flatnonzero(covers & (self._seen > 0)).astype(np.int32)
        own = self._buckets(keys)
        told = covers.copy()
        told[own] = True
        return {
            "covers": covers,
            "buckets": buckets,
            "cells": self._cells[buckets],
            "seen": np.where(told, self._seen, -1),
            "keys": keys,
            "values": np.asarray(_read_cells(keys, own, self._cells, self._probes)),
        }

    def _clear(self, gone: np.ndarray) -> None:
        # Cells that were never written stay out of memory.
        self._cells[gone & (self._seen > 0)] = 0
        self._seen[gone] = 0

    def _halve(self, bucket: int, sequence: int) -> None:
        cells = self._cells[bucket]
        before = np.count_nonzero(cells)
        cells >>= 1
        after = np.count_nonzero(cells)
        # How many keys are left is told from their cells.
        self._seen[bucket] = -(-self._seen[bucket] * after // before)
        self._halved[bucket] = sequence

    def _buckets(self, keys: np.ndarray) -> np.ndarray:
        return buckets_of_keys(keys, len(self._seen))
