"""Vowpal Wabbit's text format, simple labels: label, importance, base, tag, namespaces.

``[label] [importance] [base] ['tag]|namespace[:scale] name[:value] … |…`` as the wiki of Vowpal
Wabbit documents it under "Input format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.formats import vw_lines
from weiml.data.formats.base import register_format
from weiml.data.formats.lines import LineBlock, line_blocks, without_bad_text
from weiml.data.formats.names import name_table
from weiml.data.formats.numbers import exact_numbers, take_spans
from weiml.data.formats.stream import BadRows, StreamFormat
from weiml.data.formats.vw_lines import Parsed
from weiml.data.formats.vw_text import check_vw, write_vw
from weiml.errors import ConfigError, DataError

__all__ = ["VowpalWabbit"]

_ENTRIES = pa.list_(pa.struct({"key": pa.string(), "value": pa.float64()}))
_NUMBERS = ("label", "weight", "base")


@dataclass(frozen=True, kw_only=True)
class VowpalWabbit(StreamFormat):
    """VW files: ``label``, ``weight`` and ``tag``, ``base`` if the first block has it, namespaces.

    Each namespace is a column of its name: a list of (key, value), the value times the namespace's
    scale; null where the line lacks the namespace, empty where it is there without features. The
    column of the namespace without a name is empty in both cases. What else is left out of a line
    is null. Labels of several parts (as of contextual bandits), features with text for a value, and
    features without a name are bad rows.
    """

    name: ClassVar[str] = "vw"
    suffixes: ClassVar[tuple[str, ...]] = (".vw",)

    default_namespace: str = "features"
    """The column of the namespace without a name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.default_namespace in ("", "tag", *_NUMBERS):
            raise ConfigError(f"default_namespace cannot be {self.default_namespace!r}")

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError unless the columns are numbers, a tag and namespaces."""
        check_vw(schema)

    def _schema(self, file: BinaryIO) -> pa.Schema:
        for block in line_blocks(file):
            return self._infer(without_bad_text(block, BadRows(lambda _: None)))
        return pa.schema({"label": pa.float64(), "weight": pa.float64(), "tag": pa.string()})

    def _infer(self, block: LineBlock) -> pa.Schema:
        data = np.frombuffer(block.data, np.uint8)
        spans = take_spans(data, *vw_lines.namespace_spans(data)).cast(pa.string())
        spaces = pc.unique(spans).to_pylist()
        parsed = vw_lines.parse_vw(data, block.starts, name_table([]), False)
        based = parsed.slow[(parsed.slow[:, 0] == vw_lines.LABEL) & (parsed.slow[:, 1] % 3 == 2)]
        base = bool(len(based)) or not np.isnan(parsed.numbers[:, 2]).all()
        columns = {"label": pa.float64(), "weight": pa.float64()}
        columns |= {"base": pa.float64()} if base else {}
        columns["tag"] = pa.string()
        for space in spaces:
            name = space or self.default_namespace
            if name in columns:
                raise DataError(
                    f"the namespace {space!r} has the name of another column; rename it, or set "
                    f"default_namespace (now {self.default_namespace!r})"
                )
            columns[name] = _ENTRIES
        return pa.schema(columns)

    def _read(self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows) -> Iterator[pa.Table]:
        strict = schema is None
        if schema is not None:
            self.check(schema)
        for block in line_blocks(file):
            block = without_bad_text(block, bad)
            if schema is None:
                schema = self._infer(block)
            yield self._parse(block, schema, strict, bad)

    def _parse(self, block: LineBlock, schema: pa.Schema, strict: bool, bad: BadRows) -> pa.Table:
        spaces = [name for name in schema.names if name not in ("tag", *_NUMBERS)]
        plain = ["" if name == self.default_namespace else name for name in spaces]
        data = np.frombuffer(block.data, np.uint8)
        table = name_table([name.encode() for name in plain])
        parsed = vw_lines.parse_vw(data, block.starts, table, strict)
        wrong = _settle(data, parsed)
        errors = [tuple(map(int, error)) for error in parsed.errors]
        rows = sorted(wrong)
        errors += [(int(parsed.line[row]), vw_lines.NO_NUMBER, *wrong[row]) for row in rows]
        if strict and "base" not in schema.names:
            late = np.flatnonzero(~np.isnan(parsed.numbers[:, 2]))
            rows = sorted({*rows, *late.tolist()})
            errors += [(int(parsed.line[row]), vw_lines.MANY_WORDS, 0, 0) for row in late]
        for line, code, start, stop in sorted(errors):
            token = block.data[start:stop][:60].decode(errors="replace")
            bad.add(block.name(line), _reason(code, token, schema), block.line(line))
        columns = _columns(data, parsed, schema, spaces, self.default_namespace)
        result = pa.Table.from_arrays(columns, schema=schema)
        if not rows:
            return result
        keep = np.ones(len(parsed.line), bool)
        keep[rows] = False
        return result.filter(pa.array(keep))

    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        write_vw(file, tables, schema, self.default_namespace)


def _reason(code: int, token: str, schema: pa.Schema) -> str:
    return {
        vw_lines.NO_BAR: "no bar, |, before the features",
        vw_lines.MANY_WORDS: "before the bar there are more words than [label] [importance] "
        "['tag], or [base] is new to the columns of the first block",
        vw_lines.UNKNOWN_NAMESPACE: f"the namespace {token!r} is none of the columns "
        f"{schema.names} of the first block; give the columns with schema=",
        vw_lines.NO_NAME: f"the feature {token!r} has no name",
        vw_lines.NO_NUMBER: f"{token!r} is not a number",
    }[code]


def _settle(data: np.ndarray, parsed: Parsed) -> dict[int, tuple[int, int]]:
    """Put in the numbers that are not easy; return the examples with what is no number, and it."""
    kind, place, start, stop = parsed.slow.T
    numbers, fine = exact_numbers(data, start, stop)
    parsed.numbers.reshape(-1)[place[kind == vw_lines.LABEL]] = numbers[kind == vw_lines.LABEL]
    parsed.scale[place[kind == vw_lines.SCALE]] = numbers[kind == vw_lines.SCALE]
    parsed.value[place[kind == vw_lines.VALUE]] = numbers[kind == vw_lines.VALUE]
    wrong: dict[int, tuple[int, int]] = {}
    for i in np.flatnonzero(~fine):
        if kind[i] == vw_lines.LABEL:
            row = place[i] // 3
        else:
            space = place[i] if kind[i] == vw_lines.SCALE else parsed.owner[place[i]]
            row = parsed.occurrence[space, 0]
        wrong.setdefault(int(row), (int(start[i]), int(stop[i])))
    return wrong


def _columns(
    data: np.ndarray, parsed: Parsed, schema: pa.Schema, spaces: list[str], nameless: str
) -> list[pa.Array]:
    rows = len(parsed.line)
    values = parsed.value
    if (parsed.scale != 1.0).any():
        values = values * parsed.scale[parsed.owner]
    # A stable sort brings each column's features together, still in the order of the examples.
    column_of = parsed.occurrence[parsed.owner, 1]
    order = np.argsort(column_of.astype(np.int16), kind="stable") if len(spaces) > 1 else None
    ordered = parsed.name if order is None else parsed.name[order]
    bounds = np.searchsorted(
        column_of if order is None else column_of[order], np.arange(len(spaces) + 1)
    )
    names = take_spans(data, ordered[:, 0], ordered[:, 1]).cast(pa.string())
    values = values if order is None else values[order]
    owners = parsed.owner if order is None else parsed.owner[order]
    columns = []
    for field in schema:
        if field.name in _NUMBERS:
            numbers = parsed.numbers[:, _NUMBERS.index(field.name)]
            column = pa.array(np.ascontiguousarray(numbers), mask=np.isnan(numbers))
        elif field.name == "tag":
            column = _tags(data, parsed.tag)
        else:
            place = spaces.index(field.name)
            part = slice(bounds[place], bounds[place + 1])
            seen = parsed.occurrence[parsed.occurrence[:, 1] == place, 0]
            lengths = np.bincount(parsed.occurrence[owners[part], 0], minlength=rows)
            if field.name == nameless:
                seen = np.arange(rows)
            column = _entries(names[part], values[part], lengths, seen)
        columns.append(column.cast(field.type))
    return columns


def _tags(data: np.ndarray, spans: np.ndarray) -> pa.Array:
    absent = spans[:, 0] < 0
    texts = take_spans(data, np.maximum(spans[:, 0], 0), np.maximum(spans[:, 1], 0))
    return pc.if_else(pa.array(~absent), texts.cast(pa.string()), None)


def _entries(
    names: pa.Array, values: np.ndarray, lengths: np.ndarray, seen: np.ndarray
) -> pa.Array:
    rows = len(lengths)
    absent = np.ones(rows + 1, bool)
    absent[seen] = False
    absent[rows] = False
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32(), mask=absent)
    entries = pa.StructArray.from_arrays(
        [names, pa.array(values)], fields=list(_ENTRIES.value_type)
    )
    return pa.ListArray.from_arrays(offsets, entries)


register_format(VowpalWabbit())
