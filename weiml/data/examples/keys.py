"""Key and time columns as numbers: uint64 keys, 0 where one is missing, and int64 times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import DataError
from weiml.hashing import cross_keys, hash_values

__all__ = ["check_key", "key_of", "times_of"]

_INTEGERS = {32: pa.int32(), 64: pa.int64()}


def key_of(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Return a key for each row's values of `columns`: uint64 ``(n,)``, 0 where one is missing.

    The names of the columns do not matter, only their order.
    """
    keys: np.ndarray | None = None
    valid = np.ones(table.num_rows, np.bool_)
    for name in columns:
        column = table.column(name)
        if pa.types.is_temporal(column.type):
            column = column.cast(_INTEGERS[column.type.bit_width])
        if column.null_count:
            valid &= column.is_valid().to_numpy()
        hashed = hash_values("", column)
        keys = hashed if keys is None else cross_keys(keys, hashed)
    if keys is None:
        raise DataError("a key needs at least one column")
    return keys if valid.all() else np.where(valid, keys, np.uint64(0))


def check_key(schema: pa.Schema, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the kind of each key column; kinds must be equal for keys to meet.

    Raises:
        DataError: a column is missing, or of a type that has no exact equality, such as floats.
    """
    kinds = []
    for name in columns:
        if name not in schema.names:
            raise DataError(f"no column {name!r}{nearest(name, schema.names)}")
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_integer(kind):
            kinds.append("integer")
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            kinds.append("string")
        elif pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
            kinds.append(str(kind))
        else:
            raise DataError(
                f"column {name!r} of type {kind} cannot be a key; keys are strings, integers, "
                "booleans or times: cast it"
            )
    return tuple(kinds)


def times_of(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of times as int64 ``(n,)``: seconds if it holds numbers, else its own unit.

    Raises:
        DataError: a time is missing.
    """
    times = table.column(column)
    if times.null_count:
        raise DataError(f"time column {column!r} has {times.null_count} missing values")
    if pa.types.is_timestamp(times.type):
        times = pc.cast(times, pa.timestamp("us", times.type.tz), safe=False)
    return times.cast(pa.int64()).to_numpy()
