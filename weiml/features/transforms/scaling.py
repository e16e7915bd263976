"""Linear scaling of numbers: to [0, 1], to mean 0 and deviation 1, to a maximum norm of 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from weiml.features.transforms.accumulators import Extremes
from weiml.features.transforms.columns import numbers
from weiml.features.transforms.derived import Counting, FittedNumber, NumberTransform
from weiml.features.transforms.moments import Moments
from weiml.features.transforms.registry import register

__all__ = ["FittedMaxNorm", "FittedMinMax", "FittedStandard", "MaxNorm", "MinMax", "Standard"]

_LEAST_NORM = 1e-5


@dataclass(frozen=True, eq=False)
class FittedMinMax(FittedNumber):
    """``(x − low) / (high − low)``."""

    low: float
    high: float

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled numbers; 0 for all if the training data held one value only."""
        # Halves, since the range of doubles is itself no double.
        width = self.high / 2 - self.low / 2
        scaled = (x / 2 - self.low / 2) / (width if width > 0 else 1.0)
        return np.clip(scaled, 0.0, 1.0) if self.of.clip else scaled  # type: ignore[attr-defined]


@register("min_max")
@dataclass(frozen=True)
class MinMax(NumberTransform):
    """Scales a column to [0, 1]: ``(x − min) / (max − min)``; exact merge.

    Numbers beyond those of training leave [0, 1] unless `clip` is set.
    """

    clip: bool = False

    fitted_type = FittedMinMax

    def accumulator(self) -> Counting:
        """Return an accumulator of the extremes."""
        return _MinMaxSeen(self)


class _MinMaxSeen(Extremes):
    def _finish(self) -> FittedMinMax:
        known = self.low <= self.high
        return FittedMinMax(self.transform, *((self.low, self.high) if known else (0.0, 1.0)))


@dataclass(frozen=True, eq=False)
class FittedStandard(FittedNumber):
    """``(x − mean) / deviation``."""

    mean: float
    deviation: float

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled numbers."""
        return (x - self.mean) / self.deviation


@register("standard")
@dataclass(frozen=True)
class Standard(NumberTransform):
    """The z-score: ``(x − mean) / deviation``, of the whole population; exact merge.

    A deviation of 0 counts as 1. Mean and deviation are sums in exact arithmetic, rounded once.
    """

    fitted_type = FittedStandard

    def accumulator(self) -> Counting:
        """Return an accumulator of exact sums."""
        return _StandardSeen(self)


class _StandardSeen(Counting):
    def __init__(self, transform: Standard) -> None:
        super().__init__(transform)
        self.column = transform.column
        self.moments = Moments()

    def _see(self, table: pa.Table) -> None:
        self.moments.add(numbers(table, self.column))

    def _join(self, other: Self) -> None:
        self.moments.merge(other.moments)

    def _finish(self) -> FittedStandard:
        deviation = self.moments.deviation
        return FittedStandard(self.transform, self.moments.mean, deviation if deviation else 1.0)


@dataclass(frozen=True, eq=False)
class FittedMaxNorm(FittedNumber):
    """``x / max(norm, 1e-5)``."""

    norm: float

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled numbers."""
        return x / max(self.norm, _LEAST_NORM)

    def resume(self) -> MaxNormSeen:
        """Return an accumulator that goes on from here: the online form.

        Add each new table, then take `fitted` anew. Rows older than this are not needed.
        """
        seen = MaxNormSeen(self.of)  # type: ignore[arg-type]
        seen.low, seen.high, seen.rows = -self.norm, self.norm, 1
        return seen


@register("max_norm")
@dataclass(frozen=True)
class MaxNorm(NumberTransform):
    """Scales by the greatest absolute value so far: ``x / max(max|x|, 1e-5)``; exact merge.

    Zero stays zero. It is the scaling of Twitter's SparseMaxNorm layer, whose bias a feature is a
    model's weight; `FittedMaxNorm.resume` goes on with new data.
    """

    fitted_type = FittedMaxNorm

    def accumulator(self) -> Counting:
        """Return an accumulator of the extremes."""
        return MaxNormSeen(self)


class MaxNormSeen(Extremes):
    """The greatest absolute value so far."""

    def _finish(self) -> FittedMaxNorm:
        norm = max(abs(self.low), abs(self.high))
        return FittedMaxNorm(self.transform, norm if math.isfinite(norm) else 0.0)
