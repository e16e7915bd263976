"""Pulled rows without those that do not exist yet: a bit a row instead of numbers both sides know.

A row that a shard does not have is what an empty table would give for its key, which the client can
make itself. Where most keys of a batch are new, as in the first pass over a long tail, that is most
of what a pull brings back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from weiml.ps.wire.codecs import Encoded, decode

__all__ = ["SomeRows"]


@dataclass(frozen=True)
class SomeRows:
    """The rows that there are, in their order, and which those are."""

    rows: np.ndarray | Encoded
    """(m, dim)."""
    bits: np.ndarray
    """uint8: a bit for each row asked for, the first one highest; 1: it is in `rows`."""
    size: int
    """How many rows were asked for."""

    @classmethod
    def of(cls, rows: np.ndarray | Encoded, there: np.ndarray) -> SomeRows:
        """Take `rows` (m, dim) for those of which `there` bool (n,) holds."""
        return cls(rows, np.packbits(there), there.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.rows.nbytes + self.bits.nbytes

    def filled(self, fresh: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return all rows, float32 (n, dim), new.

        ``fresh(places)`` gives the rows float32 (k, dim) that are not there, whose places int64
        (k,) among those asked for it is told.
        """
        rows = decode(self.rows) if isinstance(self.rows, Encoded) else self.rows
        there = np.unpackbits(self.bits, count=self.size).astype(bool)
        out = np.empty((self.size, rows.shape[1]), np.float32)
        out[there] = rows
        missing = np.flatnonzero(~there)
        if missing.size:
            out[missing] = fresh(missing)
        return out
