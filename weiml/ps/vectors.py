"""A shard's part of a dense vector: a contiguous range of it, to which differences are added.

It knows its own range only; who holds the rest is `partition.vector_range`'s business.
"""

from __future__ import annotations

import numpy as np

__all__ = ["VectorPart"]


class VectorPart:
    """Numbers ``start … start + len(values)`` of a float32 vector of `length` numbers."""

    def __init__(self, length: int, start: int, values: np.ndarray, touched: int = 0) -> None:
        self.length = length
        self.start = start
        self.values = np.array(values, np.float32)  # a copy: what arrives may be read-only
        self.touched = touched
        """Sequence number of the last change."""

    def add(self, differences: np.ndarray, sequence: int) -> None:
        """Add float32 differences of the same length as `values`."""
        self.values += differences
        self.touched = sequence
