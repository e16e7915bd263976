"""JSON lines: one object a line, with lists, objects and maps inside."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.json

from weiml.data.formats.base import register_format
from weiml.data.formats.json_text import check_json, json_lines
from weiml.data.formats.lines import LineBlock, line_blocks, without_bad_text
from weiml.data.formats.stream import BadRows, StreamFormat, bisect_rows

__all__ = ["JsonLines"]


@dataclass(frozen=True, kw_only=True)
class JsonLines(StreamFormat):
    """JSON lines, UTF-8. Blank lines are passed over.

    Without a schema an object within an object is a struct, of the fields that the first block
    has. A column whose schema says map takes an object of any keys, which may repeat; such columns
    are decoded by Python, at about a tenth of the speed. Times are ISO 8601 text. A column that a
    line lacks is null there.
    """

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError unless JSON has a form for every column."""
        check_json(schema)

    def _schema(self, file: BinaryIO) -> pa.Schema:
        first = next(line_blocks(file), None)
        return pa.schema([]) if first is None else _infer(first)

    def _read(self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows) -> Iterator[pa.Table]:
        strict = schema is None
        if schema is not None:
            self.check(schema)
        for block in line_blocks(file):
            if schema is None:
                schema = _infer(block)
            yield from _parse(without_bad_text(block, bad), schema, strict, bad)

    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        first = 0
        for table in tables:
            for batch in table.to_batches(1 << 14):
                file.write(json_lines(pa.Table.from_batches([batch]), first))
                first += batch.num_rows


def _infer(block: LineBlock) -> pa.Schema:
    """Return the columns of the lines that agree; types that only nulls show become text."""
    tables = list(
        bisect_rows(
            lambda start, stop: _read_json(block, block.filled[start:stop], None, "infer"),
            len(block.filled),
            lambda _, __: None,
        )
    )
    seen: dict[str, pa.Field] = {}
    for table in tables:
        for field in table.schema:
            if field.name not in seen or pa.types.is_null(seen[field.name].type):
                seen[field.name] = field
    return pa.schema([field.with_type(_without_nulls(field.type)) for field in seen.values()])


def _without_nulls(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_nulls(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_nulls(field.type)) for field in kind])
    return kind


def _parse(block: LineBlock, schema: pa.Schema, strict: bool, bad: BadRows) -> Iterator[pa.Table]:
    lines = block.filled
    maps = [field for field in schema if pa.types.is_map(field.type)]
    rest = pa.schema([field.with_type(_wire(field.type)) for field in schema if field not in maps])
    known = rest if not strict else schema

    def parse(start: int, stop: int) -> pa.Table:
        chosen = lines[start:stop]
        if len(rest) or strict:
            table = _read_json(block, chosen, rest, "error" if strict else "ignore")
            table = table.select(rest.names)
        else:
            table = pa.table({"": pa.nulls(len(chosen))}).select([])
        columns = {name: table[name] for name in rest.names}
        if maps:
            columns |= _maps(block, chosen, maps)
        return pa.table(
            [columns[name].cast(schema.field(name).type) for name in schema.names], schema
        )

    def failed(place: int, reason: str) -> None:
        line = int(lines[place])
        bad.add(block.name(line), _reason(reason, known), block.line(line))

    yield from bisect_rows(parse, len(lines), failed)


def _reason(text: str, schema: pa.Schema) -> str:
    """Say what is wrong with one line in the words of a reader of the file."""
    text = text.removeprefix("JSON parse error: ").removesuffix(" in row 0")
    if text.startswith("Column(/"):
        column, _, what = text.removeprefix("Column(/").partition(") ")
        return f"column {column!r}: {what}"
    if text == "unexpected field":
        return (
            f"a field that is none of the columns {schema.names} of the first block; give the "
            "columns and types with schema="
        )
    return text


def _read_json(
    block: LineBlock, lines: np.ndarray, schema: pa.Schema | None, unexpected: str
) -> pa.Table:
    if len(lines) == 0:
        return (schema or pa.schema([])).empty_table()
    data = memoryview(block.data)[block.starts[lines[0]] : block.starts[lines[-1] + 1]]
    table = pyarrow.json.read_json(
        io.BytesIO(data),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior=unexpected
        ),
    )
    if table.num_columns and table.num_rows != len(lines):
        raise pa.ArrowInvalid(f"{len(lines)} lines hold {table.num_rows} objects, not one each")
    return table


def _wire(kind: pa.DataType) -> pa.DataType:
    """Return the type that Arrow's reader of JSON has for what becomes `kind`."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_large_list(kind):
        return pa.list_(_wire(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_wire(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wire(field.type)) for field in kind])
    return pa.timestamp("s") if pa.types.is_date32(kind) else kind


class _Pairs(list[tuple[str, object]]):
    """An object's names and values, those whose name stands there again included."""


def _maps(
    block: LineBlock, lines: np.ndarray, fields: list[pa.Field]
) -> dict[str, pa.ChunkedArray]:
    columns: dict[str, list[object]] = {field.name: [] for field in fields}
    for line in lines:
        try:
            row = json.loads(block.line(line), object_pairs_hook=_Pairs)
        except ValueError as error:
            raise pa.ArrowInvalid(str(error)) from None
        found = dict(row) if isinstance(row, _Pairs) else {}
        for name, values in columns.items():
            value = found.get(name)
            if value is not None and not isinstance(value, _Pairs):
                raise pa.ArrowInvalid(f"column {name!r}: expected an object, got {value!r:.100}")
            values.append(value)
    try:
        return {f.name: pa.chunked_array([pa.array(columns[f.name], f.type)]) for f in fields}
    except (pa.ArrowTypeError, OverflowError, TypeError, ValueError) as error:
        raise pa.ArrowInvalid(str(error)) from None


register_format(JsonLines())
