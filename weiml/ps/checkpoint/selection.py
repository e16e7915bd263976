"""Which buckets a reader asks for, of any number of them, against what files and batches hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from weiml.ps.checkpoint.columns import RowColumns
from weiml.ps.checkpoint.manifest import FileEntry
from weiml.ps.checkpoint.parts import Rows
from weiml.ps.partition import buckets_of_keys, vector_starts
from weiml.ps.tables.config import TableConfig

__all__ = ["Selection"]


class Selection:
    """`buckets` of `num_buckets`; None: all of them."""

    def __init__(self, buckets: np.ndarray | None, num_buckets: int) -> None:
        self.num_buckets = num_buckets
        self.mask = None
        if buckets is not None and len(np.unique(buckets)) < num_buckets:
            self.mask = np.zeros(num_buckets, bool)
            self.mask[buckets] = True

    def may_be_in(self, entry: FileEntry, theirs: int) -> bool:
        """Whether a file, whose writer had `theirs` buckets, can hold something wanted."""
        return self.mask is None or bool(self._mask_of(entry, theirs).any())

    def has_all_of(self, entry: FileEntry, theirs: int) -> bool:
        """Whether a file, whose writer had `theirs` buckets, can hold only what is wanted."""
        return self.mask is None or bool(self._mask_of(entry, theirs).all())

    def _mask_of(self, entry: FileEntry, theirs: int) -> np.ndarray:
        assert self.mask is not None
        if entry.buckets is None:
            return self.mask
        # Buckets are runs of the hash, so those of one number of them nest in those of another.
        first, last = entry.buckets
        mine = self.num_buckets
        return self.mask[first * mine // theirs : _stop(last, theirs, mine)]

    def any_of(self, held: np.ndarray, theirs: int) -> bool:
        """Whether some of the buckets `held`, of `theirs`, reach into one that is wanted."""
        if self.mask is None:
            return True
        mine = self.num_buckets
        runs = ((int(b) * mine // theirs, _stop(int(b), theirs, mine)) for b in held)
        return any(self.mask[first:stop].any() for first, stop in runs)

    def spread(self, rows: np.ndarray) -> np.ndarray:
        """Return rows a bucket, of any number of them, as rows a wanted bucket: float64."""
        edges = np.concatenate([[0.0], np.cumsum(rows)])
        mine = np.linspace(0, len(rows), self.num_buckets + 1)
        out = np.maximum(np.diff(np.interp(mine, np.arange(len(edges)), edges)), 0.0)
        return out if self.mask is None else np.where(self.mask, out, 0.0)

    def rows(
        self, entry: FileEntry, config: TableConfig, batch: pa.RecordBatch, *, whole: bool
    ) -> Rows:
        """Return the wanted ones of a batch; `whole` says that all are."""
        payload: np.ndarray | None = None
        if entry.kind == "rows":
            keys, payload = RowColumns(config).rows(batch)
        else:
            keys = batch.column("key").to_numpy()
        if self.mask is not None and not whole:
            mine = self.mask[buckets_of_keys(keys, self.num_buckets, config.rows)]
            if not mine.all():
                keys = keys[mine]
                payload = None if payload is None else payload[mine]
        return Rows(config, keys, payload)

    def ranges(self, length: int) -> list[tuple[int, int]]:
        """Return the ranges (start, stop) of a vector that lie in the buckets, ascending."""
        starts = vector_starts(length, self.num_buckets)
        all_buckets = np.ones(self.num_buckets, bool)
        chosen = np.flatnonzero(all_buckets if self.mask is None else self.mask)
        pairs = zip(starts[chosen].tolist(), starts[chosen + 1].tolist(), strict=True)
        joined: list[tuple[int, int]] = []
        for start, stop in pairs:
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], stop)
            elif stop > start:
                joined.append((start, stop))
        return joined


def _stop(bucket: int, theirs: int, mine: int) -> int:
    return -(-(bucket + 1) * mine // theirs)
