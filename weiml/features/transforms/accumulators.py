"""Accumulators over one column of numbers that several transforms share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import numpy as np
import pyarrow as pa

from weiml.errors import DataError
from weiml.features.transforms.base import Accumulator, Fitted
from weiml.features.transforms.columns import numbers
from weiml.features.transforms.derived import Counting, OneColumn
from weiml.features.transforms.distribution import Distribution
from weiml.features.transforms.quantiles import QuantileSketch, Refinement

__all__ = ["RANK_ERROR", "Extremes", "Sketching"]

RANK_ERROR = 0.001
"""A column whose ranks could be wrong by more, as a share of its rows, is read a second time."""


class Extremes(Counting):
    """Least and greatest value of a column; ±infinity while there is none."""

    def __init__(self, transform: OneColumn) -> None:
        super().__init__(transform)
        self.column = transform.column
        self.low = float("inf")
        self.high = float("-inf")

    def _see(self, table: pa.Table) -> None:
        x = numbers(table, self.column)
        known = x[~np.isnan(x)]
        if known.size:
            # Plus 0: of −0 and 0, which are equal, whichever came first would stay.
            self.low = min(self.low, float(known.min()) + 0.0)
            self.high = max(self.high, float(known.max()) + 0.0)

    def _join(self, other: Self) -> None:
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)


class Sketching(Counting):
    """The distribution of a column, by a quantile sketch and, where it needs one, a refinement."""

    def __init__(self, transform: OneColumn, seen: Distribution | None = None) -> None:
        super().__init__(transform)
        self.column = transform.column
        self._one_column = transform
        self._sketch: QuantileSketch | Refinement = (
            QuantileSketch() if seen is None else Refinement(seen, RANK_ERROR)
        )

    def then(self) -> Accumulator | None:
        """Return an accumulator for a second look if ranks could be too wrong without."""
        seen = self.distribution()
        return type(self)(self._one_column, seen) if seen.rank_error > RANK_ERROR else None

    def distribution(self) -> Distribution:
        """Return what has been seen."""
        return self._sketch.distribution()

    def _see(self, table: pa.Table) -> None:
        self._sketch.add(numbers(table, self.column))

    def _join(self, other: Self) -> None:
        if type(self._sketch) is not type(other._sketch):
            raise DataError(
                f"accumulators of different passes over the data do not merge: {self.transform}"
            )
        self._sketch.merge(other._sketch)  # type: ignore[arg-type]

    @abstractmethod
    def _finish(self) -> Fitted: ...
