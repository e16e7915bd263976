"""Statistics and drift as rows of a table for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weiml.data.quality.columns import ColumnStatistics
from weiml.data.quality.statistics import TableStatistics

__all__ = ["SUMMARY_HEADS", "summary_rows"]

SUMMARY_HEADS = (
    "FEATURE",
    "TYPE",
    "MISSING %",
    "ZERO %",
    "DISTINCT",
    "MIN",
    "MEDIAN",
    "MEAN",
    "MAX",
    "STD",
    "MOST FREQUENT",
)


def summary_rows(statistics: TableStatistics, top: int = 3) -> list[Sequence[str]]:
    """Return a row a feature, of the columns `SUMMARY_HEADS`; ``~`` marks an estimate."""
    return [_row(name, column, top) for name, column in statistics.features().items()]


def _row(name: str, column: ColumnStatistics, top: int) -> Sequence[str]:
    numbers = column.numbers or column.lengths
    spread = ["", "", "", "", ""]
    if numbers and numbers.count:
        median = float(numbers.sketch.quantiles(np.array([0.5]))[0])
        found = (numbers.min, median, numbers.mean, numbers.max, numbers.std)
        spread = [f"{x:.4g}" for x in found]
    if column.lengths:
        spread = [f"len {x}" if x else "" for x in spread]
    return (
        name,
        column.type if len(column.type) <= 24 else column.type[:21] + "…",
        f"{100 * column.missing_share:.2f}",
        f"{100 * column.zero_share:.2f}" if column.numbers else "",
        _distinct(column),
        *spread,
        _frequent(column, top),
    )


def _distinct(column: ColumnStatistics) -> str:
    if column.distinct is None:
        return ""
    return f"{'' if column.distinct.exact else '~'}{column.distinct.count()}"


def _frequent(column: ColumnStatistics, top: int) -> str:
    if column.values is None:
        return ""
    mark = "" if column.values.exact else "≥"
    shown = column.values.top(top)
    return ", ".join(f"{value[:20]} ({mark}{count})" for value, count in shown if count > 1)
