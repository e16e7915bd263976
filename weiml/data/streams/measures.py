"""What a window counts of its events: how many, sums, and rates of one against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import ConfigError, DataError

__all__ = ["Count", "Measure", "Ratio", "Sum", "check_measures", "measured", "values_of"]


@dataclass(frozen=True)
class Count:
    """The number of events, of those only in which the column ``where[0]`` equals ``where[1]``."""

    name: str
    where: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Sum:
    """The sum of a number column, as float64; missing values and NaN count as 0.

    Sums of integers are exact up to 2⁵³; beyond it each value is rounded to float64. Sums of
    fractions depend in their last bits on the order in which partitions are read: count in cents or
    milliseconds where that matters. Infinite values make infinite sums.
    """

    name: str
    column: str
    where: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Ratio:
    """``(above + strength * prior) / (below + strength)`` of two other measures, by their names.

    Without strength it is null where `below` is 0.
    """

    name: str
    above: str
    below: str
    strength: float = 0.0
    prior: float = 0.0


Measure: TypeAlias = Count | Sum | Ratio


def check_measures(measures: Sequence[Measure]) -> None:
    """Raise unless names differ and rates are of measures that are there.

    Raises:
        ConfigError: otherwise.
    """
    names = [measure.name for measure in measures]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"measures need names, each its own; got {names}")
    summed = [measure.name for measure in measures if not isinstance(measure, Ratio)]
    for measure in measures:
        if not isinstance(measure, Ratio):
            continue
        for part in (measure.above, measure.below):
            if part not in summed:
                raise ConfigError(f"rate {measure.name!r} of {part!r}{nearest(part, summed)}")
        if measure.strength < 0:
            raise ConfigError(
                f"rate {measure.name!r}: strength must be at least 0, got {measure.strength}"
            )


def values_of(measures: Sequence[Measure], events: pa.Table) -> np.ndarray:
    """Return what each event adds to each count and sum: float64 ``(n, m)``.

    Raises:
        DataError: a column is missing or does not serve.
    """
    summed = [measure for measure in measures if not isinstance(measure, Ratio)]
    values = np.empty((events.num_rows, len(summed)), np.float64)
    for j, measure in enumerate(summed):
        try:
            values[:, j] = _values(measure, events)
        except pa.ArrowException as error:
            raise DataError(f"measure {measure.name!r}: {error}") from None
    return values


def measured(
    measures: Sequence[Measure], sums: np.ndarray, suffix: str = ""
) -> dict[str, pa.Array]:
    """Return the columns of measures from the sums ``(n, m)`` of counts and sums, in their order.

    Counts become int64, sums and rates float64.
    """
    names = [measure.name for measure in measures if not isinstance(measure, Ratio)]
    by_name = {name: sums[:, j] for j, name in enumerate(names)}
    columns: dict[str, pa.Array] = {}
    for measure in measures:
        if isinstance(measure, Ratio):
            columns[measure.name + suffix] = _rate(measure, by_name)
        elif isinstance(measure, Count):
            columns[measure.name + suffix] = pa.array(by_name[measure.name].astype(np.int64))
        else:
            columns[measure.name + suffix] = pa.array(by_name[measure.name])
    return columns


def _rate(rate: Ratio, by_name: dict[str, np.ndarray]) -> pa.Array:
    weight = by_name[rate.below] + rate.strength
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (by_name[rate.above] + rate.strength * rate.prior) / weight
    return pa.array(values, mask=weight == 0)


def _values(measure: Count | Sum, events: pa.Table) -> np.ndarray:
    if isinstance(measure, Sum):
        column = pc.cast(_column(events, measure.column), pa.float64(), safe=False)
        values = pc.fill_null(column, 0.0).to_numpy()
        values = np.where(np.isnan(values), 0.0, values)
    else:
        values = np.ones(events.num_rows)
    if measure.where is None:
        return values
    name, wanted = measure.where
    equal = pc.fill_null(pc.equal(_column(events, name), wanted), False)
    return np.where(equal.to_numpy(), values, 0.0)


def _column(events: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in events.column_names:
        raise DataError(f"there is no column {name!r}{nearest(name, events.column_names)}")
    return events[name]
