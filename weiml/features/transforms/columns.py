"""Columns of Arrow tables as arrays: finding, checking and decoding them, and putting them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import DataError
from weiml.features.numbers import floats_of

__all__ = [
    "Lists",
    "as_numbers",
    "column",
    "from_numbers",
    "is_category",
    "is_list",
    "is_number",
    "is_text",
    "kind_of",
    "lists",
    "numbers",
    "plain_type",
    "put",
    "put_schema",
    "require",
]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary-encoded type, any other type as it is."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_number(kind: pa.DataType) -> bool:
    """Return whether values are integers, floats, decimals, booleans, or all null."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether values are strings of any layout, or all null."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def is_category(kind: pa.DataType) -> bool:
    """Return whether values have ids: strings, integers or booleans, or all null."""
    return bool(is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def is_list(kind: pa.DataType) -> bool:
    """Return whether values are lists, of varying or of fixed length."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def kind_of(schema: pa.Schema, name: str) -> pa.DataType:
    """Return the type of a column's values, those of a dictionary for encoded columns.

    Raises:
        DataError: no column, or more than one, has that name.
    """
    found = schema.get_all_field_indices(name)
    if not found:
        raise DataError(f"column {name!r} is missing{nearest(name, schema.names)}")
    if len(found) > 1:
        raise DataError(f"column {name!r} stands {len(found)} times in the table: rename one")
    return plain_type(schema.field(found[0]).type)


def require(fits: bool, name: str, transform: str, wanted: str, kind: pa.DataType) -> None:
    """Raise DataError unless a column's type fits what a transform takes."""
    if not fits:
        raise DataError(
            f"column {name!r}: {transform} needs {wanted}, got {kind}: cast the column, or use "
            f"another transform"
        )


def column(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array, dictionary-encoded ones decoded.

    Raises:
        DataError: no column, or more than one, has that name.
    """
    kind = kind_of(table.schema, name)
    chunked = table.column(name)
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.cast(kind)
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    return pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], kind)


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of numbers as float64 ``(rows,)``, NaN where missing. Not to be written to.

    Integers beyond 2⁵³ are rounded.

    Raises:
        DataError: the column is missing or holds no numbers.
    """
    return as_numbers(column(table, name), name)


def as_numbers(values: pa.Array, name: str) -> np.ndarray:
    """Return an array of numbers as float64, NaN where missing; `name` is for errors."""
    require(is_number(values.type), name, "this transform", "numbers", values.type)
    x = floats_of(values)
    known = np.isfinite(x)
    return x if known.all() else np.where(known, x, np.nan)


def from_numbers(x: np.ndarray) -> pa.Array:
    """Return float64 numbers as an Arrow array, null where they are not finite."""
    return pa.array(x, pa.float64(), mask=~np.isfinite(x))


@dataclass(frozen=True)
class Lists:
    """Lists as their entries in a row: a list column taken apart."""

    values: pa.Array
    """The entries of all lists that are not null."""
    lengths: np.ndarray
    """Entries of each list, 0 for null: int64 ``(rows,)``."""
    null: np.ndarray
    """Which lists are null: bool ``(rows,)``."""

    @property
    def offsets(self) -> np.ndarray:
        """Where each list starts, and the end: int64 ``(rows + 1,)``."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    def with_values(self, values: pa.Array) -> pa.Array:
        """Return lists of the same lengths with other entries.

        Raises:
            DataError: there are 2³¹ entries or more.
        """
        if len(values) >= 1 << 31:
            raise DataError(f"a column holds fewer than 2^31 entries of lists, got {len(values)}")
        offsets = pa.array(self.offsets.astype(np.int32), mask=np.append(self.null, False))
        return pa.ListArray.from_arrays(offsets, values)


def lists(array: pa.Array) -> Lists:
    """Take an array of lists apart."""
    null = pc.is_null(array).to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.where(null, 0, array.type.list_size).astype(np.int64)
    else:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return Lists(pc.list_flatten(array), lengths.astype(np.int64), null)


def put_schema(schema: pa.Schema, fields: Sequence[pa.Field]) -> pa.Schema:
    """Return a schema with fields set in place of those of their names, or else appended."""
    for field in fields:
        at = _place(schema, field.name)
        schema = schema.append(field) if at is None else schema.set(at, field)
    return schema


def put(table: pa.Table, fields: Sequence[pa.Field], arrays: Sequence[pa.Array]) -> pa.Table:
    """Return a table with columns set in place of those of their names, or else appended."""
    for field, array in zip(fields, arrays, strict=True):
        at = _place(table.schema, field.name)
        if at is None:
            table = table.append_column(field, array)
        else:
            table = table.set_column(at, field, array)
    return table


def _place(schema: pa.Schema, name: str) -> int | None:
    found = schema.get_all_field_indices(name)
    if len(found) > 1:
        raise DataError(f"column {name!r} stands {len(found)} times in the table: rename one")
    return found[0] if found else None


def label_texts(table: pa.Table, name: str, transform: str) -> pa.Array:
    """Return a label as texts, one a class, null where missing; 1.0 is the class of 1.

    Raises:
        DataError: the column is missing, holds no categories, or floats that are not whole.
    """
    kind = kind_of(table.schema, name)
    if pa.types.is_floating(kind):
        try:
            return (
                pc.if_else(pc.is_nan(column(table, name)), None, column(table, name))
                .cast(pa.int64())
                .cast(pa.string())
            )
        except pa.ArrowInvalid as error:
            raise DataError(
                f"column {name!r}: the label of {transform} needs categories, or whole numbers: "
                f"{error}"
            ) from None
    require(is_category(kind), name, f"the label of {transform}", "categories", kind)
    return column(table, name).cast(pa.string())
