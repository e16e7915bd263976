"""How many rows a step of sample preparation saw and removed: nothing goes unsaid."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.errors import DataError
from weiml.features.numbers import floats_of

__all__ = ["RowCounts", "column_of", "keep_rows", "labels_of", "numbers_of"]

_LOG = logging.getLogger("weiml.data.sampling")


@dataclass
class RowCounts:
    """Rows seen and removed, by reason; those of parts are added up. Not thread-safe."""

    seen: int = 0
    removed: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Rows that are left."""
        return self.seen - self.removed.total()

    def add(self, other: RowCounts) -> None:
        """Take in what was counted of another part."""
        self.seen += other.seen
        self.removed.update(other.removed)


def keep_rows(table: pa.Table, keep: np.ndarray, reason: str, counts: RowCounts | None) -> pa.Table:
    """Return the rows where `keep` (bool) is true; count the others, or log how many there are."""
    removed = int(np.count_nonzero(~keep))
    if counts is not None:
        counts.seen += table.num_rows
        counts.removed[reason] += removed
    elif removed:
        _LOG.info("%d of %d rows removed: %s", removed, table.num_rows, reason)
    return table.filter(pa.array(keep)) if removed else table


def column_of(table: pa.Table, name: str, what: str) -> pa.Array:
    """Return a column in one piece.

    Raises:
        DataError: there is none of that name; `what` says what for.
    """
    if name not in table.column_names:
        raise DataError(f"no {what} column {name!r}{nearest(name, table.column_names)}")
    array = table[name].combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def numbers_of(table: pa.Table, name: str, what: str) -> np.ndarray:
    """Return a column of numbers as float64 ``(n,)``, NaN for null.

    Raises:
        DataError: there is none of that name, or it holds no numbers; `what` says what for.
    """
    array = column_of(table, name, what)
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    ):
        raise DataError(f"{what} column {name!r} must hold numbers, got {kind}")
    return floats_of(array)


def labels_of(table: pa.Table, name: str) -> np.ndarray:
    """Return which rows are positive, bool ``(n,)``.

    Raises:
        DataError: a label is neither 0 nor 1.
    """
    array = column_of(table, name, "label")
    if pa.types.is_boolean(array.type) and not array.null_count:
        return np.array(array.to_numpy(zero_copy_only=False), bool)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise DataError(f"labels in {name!r} must be 0 or 1, got {array.type}")
    values = floats_of(array)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"labels in {name!r} must be 0 or 1, got {array[row]} in row {row}")
    return values == 1
