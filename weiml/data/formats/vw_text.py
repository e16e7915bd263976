"""Writing Vowpal Wabbit's text format, by Arrow's text kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.formats.json_text import lines_of
from weiml.data.formats.sparse_text import check_number, number_text
from weiml.errors import DataError

__all__ = ["check_vw", "write_vw"]

_ROWS = 1 << 14
_NUMBERS = ("label", "weight", "base")
_SPECIAL = r"[ \t\r\n|:]|^$"


def check_vw(schema: pa.Schema) -> None:
    """Raise DataError unless the columns are label, weight, base, tag and namespaces."""
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise DataError(f"VW cannot hold two columns called {name!r}")
    for field in schema:
        if field.name in _NUMBERS:
            check_number(field, "VW")
        elif field.name == "tag":
            if not pa.types.is_string(field.type):
                raise DataError(f"VW needs the column tag as string, got {field.type}")
        else:
            _check_namespace(field)
    if all(field.name in (*_NUMBERS, "tag") for field in schema):
        raise DataError(f"VW needs a column of features, got {schema.names}")


def _check_namespace(field: pa.Field) -> None:
    if set(" \t\r\n|:") & set(field.name) or not field.name:
        raise DataError(f"VW cannot hold a namespace called {field.name!r}: it has a space, | or :")
    kind = field.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    fits = (
        listed
        and pa.types.is_struct(kind.value_type)
        and [part.name for part in kind.value_type] == ["key", "value"]
    )
    if not fits:
        raise DataError(
            f"VW needs column {field.name!r} as list<struct<key: string, value: number>>, got "
            f"{kind}"
        )
    key, value = kind.value_type
    if not (pa.types.is_string(key.type) or pa.types.is_integer(key.type)):
        raise DataError(f"VW needs the keys of column {field.name!r} as strings, got {key.type}")
    check_number(value, "VW")


def write_vw(
    file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema, default_namespace: str
) -> None:
    """Write a line an example.

    Raises:
        DataError: a name, tag or number that a line of VW cannot hold; says which row.
    """
    spaces = [name for name in schema.names if name not in (*_NUMBERS, "tag")]
    first = 0
    for table in tables:
        for start in range(0, table.num_rows, _ROWS):
            batch = table.slice(start, _ROWS)
            parts = [_head(batch, first)]
            for name in spaces:
                label = "" if name == default_namespace else name
                parts.append(_namespace(batch[name], name, label, first))
            # A scalar stands among them: of nulls alone, Arrow makes an array without length.
            rest = pc.binary_join_element_wise(*parts[1:], pa.scalar(""), " ", null_handling="skip")
            rest = pc.if_else(pc.equal(rest, ""), "|", pc.utf8_rtrim(rest, " "))  # a bar is needed
            file.write(lines_of(pc.binary_join_element_wise(parts[0], rest, "")))
            first += batch.num_rows


def _head(batch: pa.Table, first: int) -> pa.Array:
    """Return label, importance, base and tag, each ended by a space."""
    parts: list[pa.Array] = []
    before: pa.Array | None = None
    for name in _NUMBERS:
        if name not in batch.column_names:
            column = pa.nulls(batch.num_rows, pa.float64())
        else:
            column = _whole(batch[name])
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            raise DataError(f"VW cannot hold NaN in column {name!r}; make it null")
        if before is not None:
            lost = pc.and_(column.is_valid(), pc.invert(before))
            place = pc.index(lost, True).as_py()
            if place >= 0:
                raise DataError(
                    f"VW cannot hold {name} without what stands before it ({', '.join(_NUMBERS)}): "
                    f"row {first + place}"
                )
        before = column.is_valid()
        parts.append(number_text(column))
    if "tag" in batch.column_names:
        tag = _whole(batch["tag"])
        wrong = pc.index(pc.match_substring_regex(tag, r"[ \t\r\n|]"), True).as_py()
        if wrong >= 0:
            raise DataError(
                f"VW cannot hold the tag {tag[wrong].as_py()!r} of row {first + wrong}: it has a "
                "space or |"
            )
        parts.append(pc.binary_join_element_wise("'", tag, ""))
    ended = [pc.binary_join_element_wise(part, pa.scalar(" "), "") for part in parts]
    return pc.binary_join_element_wise(*ended, pa.scalar(""), "", null_handling="skip")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _namespace(column: pa.ChunkedArray, name: str, label: str, first: int) -> pa.Array:
    lists = _whole(column)
    if not label and lists.null_count:
        row = first + pc.index(lists.is_null(), True).as_py()
        raise DataError(
            f"VW cannot hold the null of column {name!r}, the namespace without a name, in row "
            f"{row}: make it an empty list"
        )
    entries = lists.flatten()
    keys, values = entries.flatten()
    if entries.null_count or keys.null_count or values.null_count:
        raise DataError(f"VW cannot hold null entries, keys or values, as in column {name!r}")
    keys = keys.cast(pa.string())
    wrong = pc.index(pc.match_substring_regex(keys, _SPECIAL), True).as_py()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    if wrong >= 0:
        row = first + int(np.searchsorted(ends, wrong, side="right"))
        raise DataError(
            f"VW cannot hold the key {keys[wrong].as_py()!r} of column {name!r} in row {row}: it "
            "is empty or has a space, | or :"
        )
    texts = pc.if_else(
        pc.equal(values, 1), keys, pc.binary_join_element_wise(keys, number_text(values), ":")
    )
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64())
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, texts), " ")
    text = pc.binary_join_element_wise(f"|{label}", joined, " ")
    return pc.if_else(lists.is_valid(), text, None)
