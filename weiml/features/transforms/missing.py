"""Missing values: telling them by a flag, and filling them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import ConfigError
from weiml.features.transforms.accumulators import Sketching
from weiml.features.transforms.base import Accumulator
from weiml.features.transforms.columns import as_numbers, column, is_number, numbers
from weiml.features.transforms.derived import (
    Counting,
    FittedDerived,
    FittedNumber,
    Nothing,
    NumberTransform,
    OneColumn,
    Stateless,
)
from weiml.features.transforms.moments import Moments
from weiml.features.transforms.registry import register

__all__ = ["Fill", "FittedFill", "MissingIndicator"]


@dataclass(frozen=True, eq=False)
class FittedIndicator(FittedDerived):
    """A flag of missing values."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return true where the value is missing."""
        name = self.of.inputs[0]
        values = column(table, name)
        if is_number(values.type):
            return (pa.array(np.isnan(as_numbers(values, name))),)
        return (pc.is_null(values),)


@register("missing_indicator")
@dataclass(frozen=True)
class MissingIndicator(Stateless, OneColumn):
    """Adds a boolean column ``<column>_missing``, or `output`: true where the value is missing.

    A number is missing if it is null, NaN or infinite; any other value if it is null.
    """

    fitted_type = FittedIndicator

    @property
    def target(self) -> str:
        """The flag's name."""
        return f"{self.column}_missing" if self.output is None else self.output

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of booleans."""
        self.kind(schema)
        return (pa.field(self.target, pa.bool_()),)


@dataclass(frozen=True, eq=False)
class FittedFill(FittedNumber):
    """A number in place of missing ones."""

    fill: float

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return the numbers with missing ones filled in."""
        return np.where(np.isnan(x), self.fill, x)


@register("fill")
@dataclass(frozen=True)
class Fill(NumberTransform):
    """Puts the mean, the median or a constant in place of missing numbers; exact merge.

    If all are missing in training, mean and median are 0.
    """

    by: Literal["mean", "median", "constant"] = field(default="mean", kw_only=True)
    value: float = field(default=0.0, kw_only=True)
    """The constant, for ``by="constant"``."""

    fitted_type = FittedFill

    def __post_init__(self) -> None:
        super().__post_init__()
        if not np.isfinite(self.value):
            raise ConfigError(f"Fill({self.column!r}): value must be finite, got {self.value}")
        if self.value and self.by != "constant":
            raise ConfigError(
                f"Fill({self.column!r}): value = {self.value} is for by = 'constant', got "
                f"by = {self.by!r}"
            )

    @property
    def learns(self) -> bool:  # type: ignore[override]
        """False for a constant."""
        return self.by != "constant"

    def accumulator(self) -> Accumulator:
        """Return an accumulator of what the filling needs."""
        if self.by == "constant":
            return _ConstantSeen(self)
        return _MeanSeen(self) if self.by == "mean" else _MedianSeen(self)


class _ConstantSeen(Nothing):
    def fitted(self) -> FittedFill:
        return FittedFill(self.transform, self.transform.value)  # type: ignore[attr-defined]


class _MeanSeen(Counting):
    def __init__(self, transform: Fill) -> None:
        super().__init__(transform)
        self.column = transform.column
        self.moments = Moments()

    def _see(self, table: pa.Table) -> None:
        self.moments.add(numbers(table, self.column))

    def _join(self, other: Self) -> None:
        self.moments.merge(other.moments)

    def _finish(self) -> FittedFill:
        return FittedFill(self.transform, self.moments.mean)


class _MedianSeen(Sketching):
    def _finish(self) -> FittedFill:
        median = float(self.distribution().quantiles(0.5)[0])
        return FittedFill(self.transform, 0.0 if np.isnan(median) else median)
