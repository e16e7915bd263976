"""Arrow columns to JSON text, by Arrow's text kernels: no value passes through Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import DataError

__all__ = ["check_json", "json_lines", "lines_of"]

_CONTROL = r"[\x00-\x1f]"


def check_json(schema: pa.Schema) -> None:
    """Raise DataError unless every column has a JSON form that `JsonLines` reads back."""
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise DataError(f"JSON lines cannot hold two columns called {name!r}")
    for field in schema:
        wrong = _wrong(field.type, top=True)
        if wrong:
            raise DataError(f"JSON lines cannot hold column {field.name!r}: {wrong}")


def _wrong(kind: pa.DataType, top: bool = False) -> str:
    """Return what JSON lines cannot hold of a type; empty if all is well."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _wrong(kind.value_type)
    if pa.types.is_struct(kind):
        if kind.num_fields == 0:
            return "a struct without fields has no form"
        return next(filter(None, (_wrong(field.type) for field in kind)), "")
    if pa.types.is_map(kind):
        if not top or not pa.types.is_string(kind.key_type):
            return f"{kind}: a map must be a column of its own, with strings for keys"
        return _wrong(kind.item_type) if _plain_number(kind.item_type) else f"{kind}: items"
    if pa.types.is_dictionary(kind):
        return "" if top and pa.types.is_string(kind.value_type) else str(kind)
    fine = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_date32(kind)
        or (pa.types.is_timestamp(kind) and kind.tz in (None, "UTC"))
    )
    return "" if fine else f"no form for {kind}; cast it"


def _plain_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_boolean(kind)
    )


def json_lines(table: pa.Table, first: int) -> bytes:
    """Return a table as JSON lines; `first` is the number of its first row, for messages.

    Raises:
        DataError: a number is not finite, for which JSON has no form.
    """
    if table.num_rows == 0:
        return b""
    columns = [
        (field.name, _text(column.combine_chunks(), field.name, first))
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    lines = _object(columns) if columns else pa.array(["{}"] * table.num_rows)
    return lines_of(lines)


def lines_of(texts: pa.Array) -> bytes:
    """Return strings as lines, each ended by a newline."""
    ended = pc.binary_join_element_wise(texts, "\n", "")
    _, offsets, data = ended.buffers()
    if data is None:
        return b""
    bounds = np.frombuffer(offsets, np.int32)[ended.offset : ended.offset + len(ended) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]].tobytes()


def _object(columns: list[tuple[str, pa.Array]]) -> pa.Array:
    parts: list[pa.Array | pa.Scalar] = []
    for place, (name, text) in enumerate(columns):
        label = _quoted(pa.array([name]))[0].as_py()
        opening = "{" if place == 0 else ","
        parts += [pa.scalar(f"{opening}{label}:"), text.cast(pa.string())]
    return pc.binary_join_element_wise(*parts, pa.scalar("}"), "")


def _text(column: pa.Array, name: str, first: int) -> pa.Array:
    """Return the JSON text of each value, ``null`` for nulls."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_null(kind):
        return pa.array(["null"] * len(column), pa.string())
    if pa.types.is_dictionary(kind):
        return _text(column.cast(kind.value_type), name, first)
    if pa.types.is_map(kind):
        text = _map(column, name, first)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        text = _joined(column, _text(column.flatten(), name, first), "[", "]")
    elif pa.types.is_struct(kind):
        names = [field.name for field in kind]
        parts = zip(names, column.flatten(), strict=True)
        text = _object([(inner, _text(part, f"{name}.{inner}", first)) for inner, part in parts])
    else:
        text = _scalar(column, name, first)
    return pc.if_else(column.is_valid(), text.cast(pa.string()), "null")


def _scalar(column: pa.Array, name: str, first: int) -> pa.Array:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _quoted(column)
    if pa.types.is_floating(kind):
        wrong = pc.index(pc.is_finite(column), False).as_py()
        if wrong >= 0:
            raise DataError(
                f"JSON cannot hold column {name!r}: it has {column[wrong]}, near row "
                f"{first + wrong}; replace such values by null before writing"
            )
        # A whole float keeps its point, so that a reader takes the column for floats.
        return pc.replace_substring_regex(column.cast(pa.string()), r"^(-?\d+)$", r"\1.0")
    text = column.cast(pa.string())
    if pa.types.is_temporal(kind):
        return pc.binary_join_element_wise('"', text, '"', "")
    return text


def _map(column: pa.MapArray, name: str, first: int) -> pa.Array:
    # Flattened, for what lies outside of a slice or under a null is not among the entries.
    keys, values = pc.list_flatten(_as_list(column)).flatten()
    keys, items = _quoted(keys), _text(values, name, first)
    return _joined(column, pc.binary_join_element_wise(keys, items, ":"), "{", "}")


def _joined(column: pa.Array, texts: pa.Array, left: str, right: str) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(_as_list(column)), 0).cast(pa.int64())
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    lists = pa.LargeListArray.from_arrays(offsets, texts.cast(pa.string()))
    return pc.binary_join_element_wise(left, pc.binary_join(lists, ","), right, "")


def _as_list(column: pa.Array) -> pa.Array:
    if not pa.types.is_map(column.type):
        return column
    return column.cast(pa.list_(pa.struct([column.type.key_field, column.type.item_field])))


def _quoted(column: pa.Array) -> pa.Array:
    text = pc.replace_substring(column.cast(pa.string()), "\\", "\\\\")
    text = pc.replace_substring(text, '"', '\\"')
    if pc.any(pc.match_substring_regex(text, _CONTROL)).as_py():
        for code in range(32):
            text = pc.replace_substring(text, chr(code), f"\\u{code:04x}")
    return pc.binary_join_element_wise('"', text, '"', "")
