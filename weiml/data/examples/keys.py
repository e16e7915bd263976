"""Key and time columns as numbers: uint64 keys, 0 where one is missing, and int64 times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.errors import DataError
from weiml.hashing import cross_keys, hash_values

__all__ = ["check_key", "check_times", "key_of", "times_of", "value_type"]

_INTEGERS = {32: pa.int32(), 64: pa.int64()}


def key_of(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Return a key for each row's values of `columns`: uint64 ``(n,)``, 0 where one is missing.

    The names of the columns do not matter, only their order.
    """
    keys: np.ndarray | None = None
    valid = np.ones(table.num_rows, np.bool_)
    for name in columns:
        column = _plain(table.column(name))
        if column.null_count:
            valid &= column.is_valid().to_numpy()
        hashed = hash_values("", column)
        keys = hashed if keys is None else cross_keys(keys, hashed)
    if keys is None:
        raise DataError("a key needs at least one column")
    return keys if valid.all() else np.where(valid, keys, np.uint64(0))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a key column whose nulls are counted, times as integers."""
    if pa.types.is_dictionary(column.type):
        odd = pa.types.is_temporal(column.type.value_type)
        if odd or any(chunk.dictionary.null_count for chunk in column.chunks):
            column = column.cast(column.type.value_type)
    if pa.types.is_temporal(column.type):
        column = column.cast(_INTEGERS[column.type.bit_width])
    return column


def check_key(schema: pa.Schema, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the kind of each key column; kinds must be equal for keys to meet.

    Raises:
        DataError: a column is missing, or of a type that has no exact equality, such as floats.
    """
    if not columns:
        raise DataError("a key needs at least one column")
    kinds = []
    for name in columns:
        if name not in schema.names:
            raise DataError(f"no column {name!r}{nearest(name, schema.names)}")
        kind = value_type(schema.field(name).type)
        if pa.types.is_integer(kind):
            kinds.append("integer")
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            kinds.append("string")
        elif pa.types.is_boolean(kind) or (
            pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
        ):
            kinds.append(str(kind))
        else:
            raise DataError(
                f"column {name!r} of type {kind} cannot be a key; keys are strings, integers, "
                "booleans or times: cast it"
            )
    return tuple(kinds)


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, of a dictionary's too."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def check_times(*fields: pa.Field) -> int:
    """Return how many ticks a second the times of these columns have, when counted alike.

    1 for integers, which are seconds; 10⁶ for timestamps, 10⁹ where a column has nanoseconds.

    Raises:
        DataError: they are no times, or cannot be compared with each other.
    """
    kinds = [field.type for field in fields]
    shown = " and ".join(f"{field.name!r} is {field.type}" for field in fields)
    if all(map(pa.types.is_integer, kinds)):
        return 1
    if not all(map(pa.types.is_timestamp, kinds)):
        raise DataError(f"times must be integers or timestamps, the same on both sides: {shown}")
    if len({kind.tz is None for kind in kinds}) > 1:
        raise DataError(f"times with a zone and without cannot be compared: {shown}; cast one")
    return 1_000_000_000 if any(kind.unit == "ns" for kind in kinds) else 1_000_000


def times_of(table: pa.Table, column: str, ticks: int = 1) -> np.ndarray:
    """Return a column of times as int64 ``(n,)``, in `ticks` of `check_times` a second.

    Raises:
        DataError: a time is missing.
    """
    times = table.column(column)
    if times.null_count:
        raise DataError(f"time column {column!r} has {times.null_count} missing values")
    if pa.types.is_timestamp(times.type):
        times = times.cast(pa.timestamp("ns" if ticks == 1_000_000_000 else "us", times.type.tz))
    return times.cast(pa.int64()).to_numpy()
