"""Numbers to bucket numbers, by borders of equal width or of equal weight.

Every discretizer keeps to one numbering: 0 is for missing numbers, and bucket i + 1 is for
``borders[i − 1] ≤ x < borders[i]``, open at both ends. So n borders make n + 2 numbers, of which
one, for missing ones, is known without fitting. The numbers are int32 categories: hashed under
their own feature's name they share no id with the raw column unless that has the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import ConfigError
from weiml.features.transforms.accumulators import Extremes, Sketching
from weiml.features.transforms.base import Accumulator
from weiml.features.transforms.columns import numbers
from weiml.features.transforms.derived import FittedDerived, OneColumn
from weiml.features.transforms.registry import register

__all__ = ["Discretizer", "EqualWidth", "FittedBuckets", "QuantileBuckets", "bucket_numbers"]


def bucket_numbers(x: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """Return bucket numbers int32 ``(n,)`` of float64 ``(n,)``: 0 for NaN, else 1 + borders ≤ x."""
    x = np.ascontiguousarray(x, np.float64)
    steps = int(borders.size).bit_length()
    padded = np.full((1 << steps) - 1, np.inf)
    padded[: borders.size] = borders
    return np.asarray(_halve(x, padded, steps))


_BLOCK = 256


@numba.njit(nogil=True, cache=True)
def _halve(x: np.ndarray, padded: np.ndarray, steps: int) -> np.ndarray:
    out = np.empty(x.size, np.int32)
    for start in range(0, x.size, _BLOCK):
        stop = min(start + _BLOCK, x.size)
        for i in range(start, stop):
            out[i] = 0
        # Step by step for a whole block: no branch to predict, and many loads under way.
        for step in range(steps - 1, -1, -1):
            half = np.int32(1 << step)
            for i in range(start, stop):
                out[i] += half * np.int32(padded[out[i] + half - 1] <= x[i])
        for i in range(start, stop):
            out[i] += np.int32(x[i] == x[i])
    return out


@dataclass(frozen=True, eq=False)
class FittedBuckets(FittedDerived):
    """Borders between buckets."""

    borders: np.ndarray
    """float64 ``(buckets − 1,)``, rising."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the bucket numbers."""
        return (pa.array(bucket_numbers(numbers(table, self.of.inputs[0]), self.borders)),)


@dataclass(frozen=True)
class Discretizer(OneColumn):
    """A transform of one column of numbers into bucket numbers."""

    fitted_type = FittedBuckets

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of int32."""
        self.check_number(schema)
        return (pa.field(self.target, pa.int32()),)


@dataclass(frozen=True)
class _Counted(Discretizer):
    buckets: int = field(default=20, kw_only=True)
    """How many, besides the one of missing numbers; at most, where values repeat."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.buckets < 1 << 20:
            raise ConfigError(
                f"{type(self).__name__}({self.column!r}): buckets must be at least 2 and below "
                f"2^20, got {self.buckets}"
            )


@register("equal_width")
@dataclass(frozen=True)
class EqualWidth(_Counted):
    """Buckets of equal width between the least and the greatest number; exact merge."""

    def accumulator(self) -> Accumulator:
        """Return an accumulator of the extremes."""
        return _EqualWidthSeen(self)


class _EqualWidthSeen(Extremes):
    def _finish(self) -> FittedBuckets:
        if not self.low < self.high:
            return FittedBuckets(self.transform, np.empty(0))
        buckets: int = self.transform.buckets  # type: ignore[attr-defined]
        share = np.arange(1, buckets) / buckets
        # Not low + share · (high − low): the range of doubles is itself no double.
        borders = self.low * (1 - share) + self.high * share
        return FittedBuckets(self.transform, np.unique(borders))


@register("quantile")
@dataclass(frozen=True)
class QuantileBuckets(_Counted):
    """Buckets of equal weight; exact merge.

    With no more distinct values than buckets each value has a bucket of its own, up to the next
    greater value (the rule of Twitter's percentile discretizer). Otherwise borders are quantiles,
    those that coincide taken once.
    """

    def accumulator(self) -> Accumulator:
        """Return a quantile sketch."""
        return _QuantileSeen(self)


class _QuantileSeen(Sketching):
    def _finish(self) -> FittedBuckets:
        buckets: int = self.transform.buckets  # type: ignore[attr-defined]
        seen = self.distribution()
        if not seen.low.size:
            return FittedBuckets(self.transform, np.empty(0))
        distinct = seen.distinct(buckets)
        if distinct is not None:
            return FittedBuckets(self.transform, distinct[1:])
        borders = np.unique(seen.quantiles(np.arange(1, buckets) / buckets))
        return FittedBuckets(self.transform, borders[borders > seen.min])
