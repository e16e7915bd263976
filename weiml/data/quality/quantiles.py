"""The one place where statistics choose their quantile sketch.

`ExactQuantiles` keeps every distinct value up to a bound. Any class with the methods of `Sketch`
can take its place: change `new_sketch` and `sketch_from_bytes`.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np

from weiml.errors import DataError

__all__ = ["ExactQuantiles", "Sketch", "new_sketch", "sketch_from_bytes"]


class Sketch(Protocol):
    """What is asked of a quantile sketch."""

    def add(self, values: np.ndarray) -> None:
        """Take in finite numbers ``(n,)``."""

    def merge(self, other: Self) -> None:
        """Take in what another sketch has seen."""

    def quantiles(self, q: Any) -> np.ndarray:
        """Return the quantiles at `q` in [0, 1]; NaN if nothing was seen."""

    def cdf(self, x: Any) -> np.ndarray:
        """Return the share of the values ≤ x; NaN if nothing was seen."""

    def to_bytes(self) -> bytes:
        """Return the state."""


class ExactQuantiles:
    """Distinct values with their counts: exact while there are at most `bound` of them.

    Above, neighbours are joined into half as many points of about equal count, each time the bound
    is passed; a rank is then wrong by at most 2 / `bound` for each such time. Not thread-safe.
    """

    def __init__(self, bound: int = 1 << 14) -> None:
        self.bound = bound
        self._values = np.empty(0, np.float64)
        self._counts = np.empty(0, np.float64)

    def add(self, values: np.ndarray) -> None:
        """Take in finite numbers ``(n,)``."""
        found, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
        self._join(found, counts.astype(np.float64))

    def merge(self, other: ExactQuantiles) -> None:
        """Take in what another sketch has seen."""
        self._join(other._values, other._counts)

    def _join(self, values: np.ndarray, counts: np.ndarray) -> None:
        joined = np.concatenate([self._values, values])
        both, places = np.unique(joined, return_inverse=True)
        sums: np.ndarray = np.bincount(
            places, np.concatenate([self._counts, counts]), minlength=len(both)
        )
        if len(both) > self.bound:
            both, sums = _thinned(both, sums, self.bound // 2)
        self._values, self._counts = both, sums

    def quantiles(self, q: Any) -> np.ndarray:
        """Return the least value whose `cdf` reaches each of `q`; NaN if nothing was seen."""
        levels = np.asarray(q, np.float64)
        if not len(self._values):
            return np.full(levels.shape, np.nan)
        ends = np.cumsum(self._counts)
        # A little less, so that rounding of q times the sum steps over no value.
        places = np.searchsorted(ends, levels * ends[-1] * (1 - 1e-12), side="left")
        return self._values[np.minimum(places, len(self._values) - 1)]

    def cdf(self, x: Any) -> np.ndarray:
        """Return the share of the values ≤ x; NaN if nothing was seen."""
        points = np.asarray(x, np.float64)
        if not len(self._values):
            return np.full(points.shape, np.nan)
        ends = np.concatenate([[0.0], np.cumsum(self._counts)])
        return ends[np.searchsorted(self._values, points, side="right")] / ends[-1]

    def to_bytes(self) -> bytes:
        """Return the state."""
        return np.stack([self._values, self._counts]).astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> ExactQuantiles:
        """Return the sketch whose `to_bytes` is given.

        Raises:
            DataError: the bytes are damaged.
        """
        if len(data) % 16:
            raise DataError(f"the bytes of a quantile sketch are damaged: {len(data)} bytes")
        sketch = cls()
        sketch._values, sketch._counts = np.frombuffer(data, "<f8").reshape(2, -1)
        return sketch


def _thinned(values: np.ndarray, counts: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `points` of the values, the ends among them, with the counts of all."""
    ends = np.cumsum(counts)
    middles = (ends - counts / 2) / ends[-1] * points
    cell = np.minimum(middles.astype(np.int64), points - 1)
    last = np.flatnonzero(np.append(cell[1:] != cell[:-1], True))
    sums = np.diff(np.concatenate([[0.0], ends[last]]))
    return values[last], sums


def new_sketch() -> ExactQuantiles:
    """Return an empty sketch."""
    return ExactQuantiles()


def sketch_from_bytes(data: bytes) -> ExactQuantiles:
    """Return the sketch whose state `data` is."""
    return ExactQuantiles.from_bytes(data)
