"""Reading: raw Arrow columns to the keys of each slot and the numbers of each dense column.

Nothing that is fitted is applied here. What comes out, `RawColumns`, is what `assemble` makes a
batch of; whoever reads raw data some other way makes one too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.errors import DataError
from weiml.features.lists import entries_of, sequence_slot, sparse_continuous_slot
from weiml.features.numbers import floats_of, seconds_of
from weiml.features.slots import (
    SlotKeys,
    categorical_slot,
    flag_slot,
    list_slot,
    text_slot,
    tokenize,
)
from weiml.features.spec import FeatureSpec
from weiml.features.types import (
    Binary,
    Categorical,
    Continuous,
    Feature,
    Sequence,
    SparseBinary,
    SparseContinuous,
    Text,
)
from weiml.hashing import hash_values

__all__ = ["RawColumns", "column_of", "distinct_values", "read_columns", "read_numbers"]


@dataclass(frozen=True, kw_only=True)
class RawColumns:
    """What was read of B examples, before anything fitted is applied. Arrays are not copied."""

    num_examples: int
    slots: Mapping[str, SlotKeys] = field(default_factory=dict)
    """By name of feature, for each one with a slot other than `Continuous`: its keys."""
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By name, for each `Continuous`: float64 ``(B,)`` as it stands in the data, NaN if missing."""
    labels: np.ndarray | None = None
    """``(B, T)`` float32; labels of 0 if None."""
    groups: np.ndarray | None = None
    """``(B,)`` uint64, ids of `FeatureSpec.group`'s values; 0 if None."""
    items: np.ndarray | None = None
    """``(B,)`` uint64, ids of `FeatureSpec.item`'s values; 0 if None."""
    times: np.ndarray | None = None
    """``(B,)`` int64 seconds; 0 if None."""


def read_columns(spec: FeatureSpec, table: pa.Table, *, labels: bool = True) -> RawColumns:
    """Read the columns that a spec names; the label's too unless ``labels=False``.

    Raises:
        DataError: a column is missing or of the wrong type.
    """
    slots: dict[str, SlotKeys] = {}
    numbers: dict[str, np.ndarray] = {}
    for feature in spec.features:
        if isinstance(feature, Continuous):
            numbers[feature.name] = read_numbers(table, feature)
        else:
            slots[feature.name] = read_slot(table, feature)
    return RawColumns(
        num_examples=table.num_rows,
        slots=slots,
        numbers=numbers,
        labels=_labels(spec, table) if labels else None,
        groups=_ids(table, spec.group),
        items=_ids(table, spec.item),
        times=_times(table, spec.time),
    )


def read_slot(table: pa.Table, feature: Feature) -> SlotKeys:
    """Return the keys of a feature other than `Continuous`.

    Raises:
        DataError: the column is missing or of the wrong type.
    """
    column = column_of(table, feature.name)
    check_column(feature, column.type)
    if isinstance(feature, Binary):
        return flag_slot(feature.name, column)
    if isinstance(feature, SparseBinary):
        return list_slot(feature.name, column)
    if isinstance(feature, SparseContinuous):
        numbers = None if feature.values is None else column_of(table, feature.values)
        return sparse_continuous_slot(feature, column, numbers)
    if isinstance(feature, Sequence):
        return sequence_slot(feature, column)
    if isinstance(feature, Text):
        return text_slot(feature.name, column.cast(pa.string()), feature.max_tokens)
    return categorical_slot(feature.name, column)


def read_numbers(table: pa.Table, feature: Continuous) -> np.ndarray:
    """Return a Continuous column as it stands: float64 ``(B,)``, NaN where missing.

    Raises:
        DataError: the column is missing or of the wrong type.
    """
    column = column_of(table, feature.name)
    check_column(feature, column.type)
    return floats_of(column)


def distinct_values(table: pa.Table, feature: Feature) -> pa.Array | None:
    """Return the distinct values of a feature that have a key; None if it makes no slot.

    Raises:
        DataError: the column is missing or of the wrong type.
    """
    if isinstance(feature, Continuous):
        return pa.array([*range(feature.buckets), None]) if feature.buckets else None
    column = column_of(table, feature.name)
    check_column(feature, column.type)
    if isinstance(feature, Binary):
        return pa.array([True])
    if isinstance(feature, Text):
        column = tokenize(feature.name, column.cast(pa.string()), feature.max_tokens)[0]
    elif isinstance(feature, SparseBinary | Sequence):
        column = pc.list_flatten(column)
    elif isinstance(feature, SparseContinuous):
        numbers = None if feature.values is None else column_of(table, feature.values)
        column = entries_of(feature, column, numbers)[0]
    return pc.unique(column)


def column_of(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array.

    Raises:
        DataError: there is none of that name, or more than one.
    """
    place = table.schema.get_field_index(name)
    if place < 0:
        if name in table.column_names:
            raise DataError(f"there is more than one column {name!r}")
        raise DataError(f"column {name!r} is missing{nearest(name, table.column_names)}")
    column = table.column(place)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _labels(spec: FeatureSpec, table: pa.Table) -> np.ndarray:
    """Return float32 ``(B, T)``; of several labels, NaN is one that is missing."""
    labels = np.empty((table.num_rows, len(spec.label_names)), np.float32)
    for at, name in enumerate(spec.label_names):
        column = column_of(table, name)
        if not _is_number(column.type):
            raise DataError(f"label column {name!r} must hold numbers, got {column.type}")
        labels[:, at] = floats_of(column, np.float32)
    if len(spec.label_names) == 1 and np.isnan(labels).any():
        raise DataError(f"label column {spec.label!r} has missing values")
    return labels


def _ids(table: pa.Table, name: str) -> np.ndarray | None:
    return hash_values(name, column_of(table, name)) if name in table.column_names else None


def _times(table: pa.Table, name: str) -> np.ndarray | None:
    """Return a column of times as int64 ``(B,)`` seconds, timestamps rounded down."""
    if name not in table.column_names:
        return None
    column = column_of(table, name)
    if column.null_count:
        raise DataError(f"time column {name!r} has {column.null_count} missing values")
    if pa.types.is_timestamp(column.type):
        column = seconds_of(column)
    elif not _is_number(column.type):
        raise DataError(f"time column {name!r} must hold seconds or timestamps, got {column.type}")
    try:
        return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"time column {name!r} must hold whole seconds: {error}") from None


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_entries(kind: pa.DataType) -> bool:
    return bool(pa.types.is_map(kind) or _is_list(kind))


_CHECKS: dict[type, tuple[Callable[[pa.DataType], bool], str]] = {
    Binary: (lambda kind: pa.types.is_boolean(kind) or pa.types.is_null(kind), "booleans"),
    Categorical: (lambda kind: not pa.types.is_nested(kind), "categories"),
    Continuous: (_is_number, "numbers"),
    Sequence: (_is_list, "lists of strings or integers"),
    SparseBinary: (_is_list, "lists of strings or integers"),
    SparseContinuous: (_is_entries, "maps of strings to numbers, or lists of keys and values"),
    Text: (_is_string, "strings"),
}


def check_column(feature: Feature, kind: pa.DataType) -> None:
    """Raise DataError unless a feature's column may be of an Arrow type."""
    fits, wanted = _CHECKS[type(feature)]
    if not fits(kind):
        raise DataError(
            f"column {feature.name!r} is {type(feature).__name__} and must hold {wanted}, "
            f"got {kind}: cast the column or change the feature's type in the spec"
        )
