"""Examples that are there more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.sampling.counts import RowCounts, column_of, keep_rows
from weiml.errors import ConfigError, DataError

__all__ = ["Duplicates", "remove_duplicates", "time_order"]

_PLACE = "__place__"


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Which rows are the same example, and which of them stays.

    Raises:
        ConfigError: no keys, or `keep` is neither first nor last.
    """

    keys: tuple[str, ...]
    """Rows with equal values in these columns are one example; null is equal to null."""
    keep: Literal["first", "last"] = "first"
    time: str | None = None
    """Column of times that says which is first; the order of the rows if None. Among equal times
    the earlier row is the earlier one."""

    def __post_init__(self) -> None:
        if not self.keys:
            raise ConfigError("keys must name at least one column")
        if self.keep not in ("first", "last"):
            raise ConfigError(f"keep must be first or last, got {self.keep!r}")


def remove_duplicates(
    table: pa.Table, config: Duplicates, *, counts: RowCounts | None = None
) -> pa.Table:
    """Return one row of each example, in their order. Values are compared, not hashes.

    Raises:
        DataError: a column is missing, a key is a list or struct, or a time is null.
    """
    order = np.arange(table.num_rows) if config.time is None else time_order(table, config.time)
    place = np.empty(table.num_rows, np.int64)
    place[order] = np.arange(table.num_rows)
    columns = {name: column_of(table, name, "key") for name in config.keys}
    for name, column in columns.items():
        if pa.types.is_nested(column.type):
            raise DataError(f"key {name!r} is {column.type}; keys must be plain values")
    numbered = pa.table({**columns, _PLACE: place})
    how = "min" if config.keep == "first" else "max"
    chosen = numbered.group_by(list(config.keys)).aggregate([(_PLACE, how)])
    keep = np.zeros(table.num_rows, bool)
    keep[order[chosen[f"{_PLACE}_{how}"].to_numpy()]] = True
    return keep_rows(table, keep, f"duplicates (kept the {config.keep})", counts)


def time_order(table: pa.Table, time: str) -> np.ndarray:
    """Return the row numbers in the order of the times; of equal times in the rows' order.

    Raises:
        DataError: the column is missing, or a time is null.
    """
    times = column_of(table, time, "time")
    if times.null_count:
        raise DataError(f"times in {time!r} have {times.null_count} nulls; which is first?")
    numbered = pa.table({"time": times, "row": np.arange(table.num_rows)})
    keys = [("time", "ascending"), ("row", "ascending")]
    return pc.sort_indices(numbered, sort_keys=keys).to_numpy().astype(np.int64)
