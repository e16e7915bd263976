"""Bytes of events to Arrow tables by a schema, in blocks; what cannot be read is told, not lost.

A whole block is parsed at once. When that fails the block is cut until the bad events are found, so
that good streams pay nothing and bad events cost no good ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from weiml.data.streams.base import RawEvents
from weiml.data.streams.json_lines import BROKEN, NEWLINE, NOT_OBJECT, compact, scan_objects
from weiml.errors import ConfigError

__all__ = ["ArrowDecoder", "CsvDecoder", "Decoded", "Decoder", "JsonDecoder"]

_PIECES = 16  # a block that cannot be parsed is cut into so many


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """The columns of n events, and what could not be read of the raw ones."""

    table: pa.Table
    rows: np.ndarray
    """``(table.num_rows,)`` int64, the raw event that each row comes from; never falling."""
    bad: list[int]
    """Raw events that could not be read."""
    reasons: list[str]
    """Why, one for each of `bad`."""


class Decoder(ABC):
    """How bytes become columns. Frozen, so thread-safe and picklable."""

    schema: pa.Schema

    @abstractmethod
    def decode(self, raw: RawEvents) -> Decoded:
        """Return the events as a table of `schema`; bad ones apart. Never raises for an event."""


@dataclass(frozen=True, kw_only=True)
class _LineDecoder(Decoder):
    """Parses events that are one line of text each."""

    schema: pa.Schema
    """Columns to take; those with ``nullable=False`` must be there in every event."""

    def __post_init__(self) -> None:
        if not len(self.schema):
            raise ConfigError("schema has no column: name those that the events have")

    def decode(self, raw: RawEvents) -> Decoded:
        """See `Decoder.decode`."""
        data = np.frombuffer(raw.data, np.uint8) if raw.data.size else np.empty(0, np.uint8)
        lines, faults = self._lines(data, raw.bounds)
        bad = dict(faults)
        if faults or lines is not data:
            kept = np.ones(len(raw), np.bool_)
            kept[list(bad)] = False
            lines, bounds = compact(lines, raw.bounds, kept)
            rows = np.flatnonzero(kept)
        else:
            bounds, rows = raw.bounds, np.arange(len(raw))
        block = _Block(pa.py_buffer(lines), bounds, rows)
        good = [part for part in self._parse(block, bad) if part[0].num_rows]
        table = pa.concat_tables([part[0] for part in good] or [self.schema.empty_table()])
        rows = np.concatenate([part[1] for part in good] or [np.empty(0, np.int64)])
        table, rows = _whole(table, rows, self.schema, bad)
        at = sorted(bad)
        return Decoded(table=table, rows=rows, bad=at, reasons=[bad[i] for i in at])

    def _parse(self, block: _Block, bad: dict[int, str]) -> list[tuple[pa.Table, np.ndarray]]:
        """Return tables with the raw events of their rows; note the bad ones."""
        n = len(block.rows)
        if n == 0:
            return []
        try:
            table = self._read(block.data)
            table.validate(full=True)  # readers take text on trust: it may not be UTF-8
            if table.num_rows == n:
                return [(table, block.rows)]
            reason = f"one event holds {table.num_rows} lines"
        except MemoryError:
            raise  # an Arrow error too, but no fault of the events
        except (pa.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0].removesuffix(" in row 0")
        if n == 1:
            bad[int(block.rows[0])] = reason
            return []
        cuts = np.unique(np.linspace(0, n, min(n, _PIECES) + 1).astype(np.int64)).tolist()
        parts = []
        for start, stop in pairwise(cuts):
            parts += self._parse(block.slice(start, stop), bad)
        return parts

    @abstractmethod
    def _lines(self, data: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Return the data, made fit for the reader, and the events that it must not see."""

    @abstractmethod
    def _read(self, data: pa.Buffer) -> pa.Table:
        """Parse lines; raise if one of them is bad."""


@dataclass(frozen=True, kw_only=True)
class JsonDecoder(_LineDecoder):
    """Events that are JSON objects; members that `schema` does not name are left out."""

    def _lines(self, data: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        faults = scan_objects(data, bounds)
        if not faults.any():
            return data, {}
        texts = {NOT_OBJECT: "not a JSON object", BROKEN: "not one whole JSON object"}
        if (faults == NEWLINE).any():  # an object over several lines; its strings have none
            data = np.where(data == ord("\n"), np.uint8(ord(" ")), data)
        at = np.flatnonzero((faults == NOT_OBJECT) | (faults == BROKEN))
        return data, {int(i): texts[int(faults[i])] for i in at}

    def _read(self, data: pa.Buffer) -> pa.Table:
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=data.size + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=_nullable(self.schema), unexpected_field_behavior="ignore"
            ),
        )
        return table.select(self.schema.names)


@dataclass(frozen=True, kw_only=True)
class CsvDecoder(_LineDecoder):
    """Events that are rows of CSV with the columns of `schema`, in that order, without a header."""

    delimiter: str = ","
    null_values: tuple[str, ...] = ("",)
    """Texts that mean a missing value."""
    _convert: pyarrow.csv.ConvertOptions = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        convert = pyarrow.csv.ConvertOptions(
            column_types=_nullable(self.schema),
            null_values=list(self.null_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        object.__setattr__(self, "_convert", convert)

    def _lines(self, data: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        newlines = np.flatnonzero(data == ord("\n"))
        if len(newlines) == len(bounds) - 1:
            return data, {}
        owners = np.searchsorted(bounds, newlines, side="right") - 1
        counts = np.bincount(owners, minlength=len(bounds) - 1)
        return data, dict.fromkeys(np.flatnonzero(counts > 1).tolist(), "more than one line")

    def _read(self, data: pa.Buffer) -> pa.Table:
        return pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                column_names=self.schema.names, use_threads=False, block_size=data.size + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.delimiter, ignore_empty_lines=False
            ),
            convert_options=self._convert,
        )


@dataclass(frozen=True, kw_only=True)
class ArrowDecoder(Decoder):
    """Events that are Arrow IPC streams, of any number of rows each; for brokers, not for files."""

    schema: pa.Schema

    def decode(self, raw: RawEvents) -> Decoded:
        """See `Decoder.decode`; an event with one bad row is bad as a whole."""
        wanted = _nullable(self.schema)
        tables, rows, bad = [wanted.empty_table()], [np.empty(0, np.int64)], dict[int, str]()
        for i in range(len(raw)):
            try:
                with pa.ipc.open_stream(raw.value(i)) as reader:
                    table = reader.read_all().select(wanted.names).cast(wanted)
                table.validate(full=True)
                missing = _missing(table, self.schema)
            except (pa.ArrowException, KeyError, OSError, ValueError) as error:
                bad[i] = f"not an Arrow stream with these columns: {error}".splitlines()[0]
                continue
            if missing:
                bad[i] = f"no value for {next(iter(missing))!r}"
                continue
            tables.append(table)
            rows.append(np.full(table.num_rows, i, np.int64))
        return Decoded(
            table=pa.concat_tables(tables),
            rows=np.concatenate(rows),
            bad=list(bad),
            reasons=list(bad.values()),
        )


@dataclass(frozen=True, eq=False)
class _Block:
    """Lines that are parsed in one go, and which raw event each is."""

    data: pa.Buffer
    bounds: np.ndarray
    rows: np.ndarray

    def slice(self, start: int, stop: int) -> _Block:
        first, last = int(self.bounds[start]), int(self.bounds[stop])
        return _Block(
            self.data.slice(first, last - first),
            self.bounds[start : stop + 1] - first,
            self.rows[start:stop],
        )


def _nullable(schema: pa.Schema) -> pa.Schema:
    # What is missing is found by us and named: readers would refuse the whole block.
    return pa.schema([column.with_nullable(True) for column in schema])


def _missing(table: pa.Table, schema: pa.Schema) -> dict[str, np.ndarray]:
    """Return, by required column, the rows without a value."""
    return {
        column.name: np.flatnonzero(pc.is_null(table[column.name]).to_numpy())
        for column in schema
        if not column.nullable and table[column.name].null_count
    }


def _whole(
    table: pa.Table, rows: np.ndarray, schema: pa.Schema, bad: dict[int, str]
) -> tuple[pa.Table, np.ndarray]:
    """Return the rows that have every required value; note the others."""
    missing = _missing(table, schema)
    if not missing:
        return table, rows
    kept = np.ones(len(rows), np.bool_)
    for name, at in missing.items():
        kept[at] = False
        bad |= {int(row): f"no value for {name!r}" for row in rows[at] if int(row) not in bad}
    return table.filter(pa.array(kept)), rows[kept]
