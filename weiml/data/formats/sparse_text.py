"""Writing ``label … index:value …`` lines, by Arrow's text kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.data.formats.json_text import lines_of
from weiml.errors import DataError

__all__ = ["check_features", "check_number", "entries_text", "number_text", "write_lines"]

_ROWS = 1 << 14


def check_features(
    schema: pa.Schema, format: str, entries: pa.ListType, optional: tuple[str, ...] = ()
) -> None:
    """Raise DataError unless `schema` is a label, features like `entries`, and optional columns."""
    known = ("label", *optional, "features")
    for name in schema.names:
        if name not in known:
            raise DataError(
                f"{format} cannot hold column {name!r}{nearest(name, known)}; it holds {known}: "
                "leave the others away, or put them into features"
            )
    if "label" not in schema.names or "features" not in schema.names:
        raise DataError(f"{format} needs the columns label and features, got {schema.names}")
    check_number(schema.field("label"), format)
    kind = schema.field("features").type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    names = [field.name for field in kind.value_type] if listed and _is_struct(kind) else None
    if names != [field.name for field in entries.value_type]:
        raise DataError(f"{format} needs features of type {entries}, got {kind}")
    for field in kind.value_type:
        check_number(field, format, integer=field.name != "value")


def _is_struct(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind.value_type))


def check_number(field: pa.Field, format: str, *, integer: bool = False) -> None:
    """Raise DataError unless a column is of whole numbers, or of any numbers."""
    whole = pa.types.is_integer(field.type)
    if not (whole or (pa.types.is_floating(field.type) and not integer)):
        kind = "whole numbers" if integer else "numbers"
        raise DataError(f"{format} needs {kind} in column {field.name!r}, got {field.type}")


def number_text(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the shortest text of each number that reads back the same; nulls stay."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.cast(pa.string())


def entries_text(column: pa.ChunkedArray, parts: tuple[str, ...], first_index: int) -> pa.Array:
    """Return the text of each example's entries: their parts joined by ``:``, and by spaces."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else lists.type
    entries = lists.flatten()
    if entries.null_count:
        raise DataError("features has null entries; leave them out")
    texts = []
    for name, part in zip(parts, entries.flatten(), strict=True):
        if part.null_count:
            raise DataError(f"features has entries without {name}; leave them out")
        if name in ("key", "field"):
            low = pc.min(part).as_py()
            if low is not None and low < 0:
                raise DataError(f"features has the {name} {low}; it must not be below 0")
            high = pc.max(part).as_py()
            if high is not None and high + first_index > 10**18 - 1:
                raise DataError(
                    f"features has the {name} {high}, of more than 18 digits; map keys to smaller "
                    "ones first"
                )
        texts.append(
            (pc.add_checked(part, first_index) if name == "key" and first_index else part).cast(
                pa.string()
            )
        )
    lengths = pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))])
    joined = pc.binary_join_element_wise(*texts, ":")
    text = pc.binary_join(pa.LargeListArray.from_arrays(pa.array(offsets), joined), " ")
    return pc.if_else(lists.is_valid(), text, None)


def write_lines(
    file: BinaryIO,
    tables: Iterable[pa.Table],
    format: str,
    texts: Callable[[pa.Table], list[pa.Array]],
) -> None:
    """Write a line an example: its label, then what `texts` gives, without the nulls.

    Raises:
        DataError: a label or features are null.
    """
    first = 0
    for table in tables:
        for start in range(0, table.num_rows, _ROWS):
            batch = table.slice(start, _ROWS)
            for name in ("label", "features"):
                if batch[name].null_count:
                    row = first + pc.index(batch[name].is_null(), True).as_py()
                    raise DataError(
                        f"{format} cannot hold the null of column {name!r} in row {row}"
                    )
            label = number_text(batch["label"])
            parts = texts(batch)
            parts = [pc.if_else(pc.equal(part, ""), None, part) for part in parts]
            line = pc.binary_join_element_wise(label, *parts, " ", null_handling="skip")
            file.write(lines_of(line))
            first += batch.num_rows
