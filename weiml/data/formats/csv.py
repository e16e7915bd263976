"""CSV: delimited text with a header, parsed by Arrow in blocks of whole records."""

from __future__ import annotations

import csv as standard
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from weiml.data.formats.base import pick, register_format
from weiml.data.formats.csv_records import RecordBlock, record_blocks
from weiml.data.formats.stream import BadRows, StreamFormat, bisect_rows
from weiml.errors import ConfigError, DataError

__all__ = ["Csv", "Tsv"]

_PLACE = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?(?:CSV conversion error to )?(.*)")
_ROW = re.compile(r"CSV parse error: (?:Row #\d+: )?")


@dataclass(frozen=True, kw_only=True)
class Csv(StreamFormat):
    """CSV files, UTF-8.

    Types are told from the first block unless a schema is given. An unquoted field that is one of
    `nulls` is null; a quoted one is text always, so that the empty text and null differ.
    """

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    delimiter: str = ","
    quote: str = '"'
    """Doubled within a quoted field. Empty: quotes mean nothing."""
    newlines_in_values: bool = True
    """Whether a quoted field may go on over lines."""
    header: bool = True
    """Whether the first record names the columns."""
    names: tuple[str, ...] = ()
    """The columns of a file without header; ``f0``, ``f1``, … where none are given."""
    nulls: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob, text in (("delimiter", self.delimiter), ("quote", self.quote)):
            if len(text.encode()) != 1 and (knob, text) != ("quote", ""):
                raise ConfigError(f"{knob} must be one ASCII character, got {text!r}")
        if self.delimiter in (self.quote, "\n", "\r"):
            raise ConfigError(f"delimiter cannot be {self.delimiter!r}")
        if self.header and self.names:
            raise ConfigError(f"names={self.names} are for files without header; set header=False")

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError unless each column is of numbers, text, flags or times."""
        if len(set(schema.names)) != len(schema.names):
            raise DataError(f"CSV columns need different names, got {schema.names}")
        for field in schema:
            if not _holds(field.type):
                raise DataError(
                    f"CSV cannot hold column {field.name!r} of type {field.type}: cast it to text "
                    "or numbers, or write JSON lines"
                )

    def _schema(self, file: BinaryIO) -> pa.Schema:
        for block in self._blocks(file):
            return self._infer(block)
        return pa.schema([])

    def _read(self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows) -> Iterator[pa.Table]:
        for block in self._blocks(file):
            if schema is None:
                schema = self._infer(block)
            pick(block.columns, schema)
            yield from self._parse(block, schema, bad)

    def _blocks(self, file: BinaryIO) -> Iterator[RecordBlock]:
        """Yield blocks of records that know their columns; one without records for a bare head."""
        columns: tuple[str, ...] | None = None
        multiline = self.newlines_in_values
        for block in record_blocks(file, self.delimiter, self.quote, multiline):
            if columns is None:
                columns, block = self._head(block)
                if len(set(columns)) != len(columns):
                    raise DataError(f"line 1: columns need different names, got {list(columns)}")
            yield block.of(columns)

    def _head(self, block: RecordBlock) -> tuple[tuple[str, ...], RecordBlock]:
        """Return the columns, and the block without the record that names them."""
        try:
            text = block.raw(0).decode()
        except UnicodeDecodeError:
            raise DataError("line 1: the header is not UTF-8") from None
        quoting: Any = standard.QUOTE_MINIMAL if self.quote else standard.QUOTE_NONE
        quote = self.quote or None
        reader = standard.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quotechar=quote,
            quoting=quoting,
        )
        fields = next(reader, [])
        if self.header:
            return tuple(fields), block.after(1)
        names = self.names or tuple(f"f{i}" for i in range(len(fields)))
        return names, block

    def _infer(self, block: RecordBlock) -> pa.Schema:
        tables = bisect_rows(
            lambda start, stop: self._read_csv(block, start, stop, None, block.columns),
            block.size,
            lambda _, __: None,
        )
        first = max(tables, key=len, default=None)
        if first is None:
            return pa.schema([(name, pa.string()) for name in block.columns])
        return pa.schema(
            [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in first.schema]
        )

    def _parse(self, block: RecordBlock, schema: pa.Schema, bad: BadRows) -> Iterator[pa.Table]:
        def parse(start: int, stop: int) -> pa.Table:
            return self._read_csv(block, start, stop, schema, schema.names).cast(schema)

        def failed(place: int, reason: str) -> None:
            bad.add(f"line {block.line(place)}", _reason(reason, block.columns), block.raw(place))

        yield from bisect_rows(parse, block.size, failed)

    def _read_csv(
        self,
        block: RecordBlock,
        start: int,
        stop: int,
        schema: pa.Schema | None,
        columns: Iterable[str],
    ) -> pa.Table:
        data = block.bytes_of(start, stop)
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(block.columns), block_size=len(data) + 1, use_threads=stop > 1000
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                newlines_in_values=self.newlines_in_values,
                ignore_empty_lines=len(block.columns) > 1,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=schema,
                include_columns=list(columns),
                null_values=list(self.nulls),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        if table.num_rows != stop - start:
            raise pa.ArrowInvalid(f"{stop - start} records became {table.num_rows} rows")
        return table

    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        if "" not in self.nulls or self.quote not in ('"', ""):
            raise ConfigError(
                f"CSV is written with nulls as empty fields and the quote '\"' or none; got "
                f"nulls={self.nulls}, quote={self.quote!r}"
            )
        plain = pa.schema([f.with_type(_plain(f.type)) for f in schema])
        options = pyarrow.csv.WriteOptions(
            include_header=False,
            delimiter=self.delimiter,
            quoting_style="needed" if self.quote else "none",
        )
        if self.header:
            file.write(self._header_line(schema.names))
        for table in tables:
            cast = table.cast(plain)
            self._check_text(cast)
            try:
                pyarrow.csv.write_csv(cast, file, options)
            except pa.ArrowInvalid as error:
                raise DataError(f"CSV without quotes cannot hold a value: {error}") from None

    def _header_line(self, names: list[str]) -> bytes:
        text = io.StringIO(newline="")
        writer = standard.writer(
            text,
            delimiter=self.delimiter,
            lineterminator="\n",
            quoting=standard.QUOTE_ALL if self.quote else standard.QUOTE_NONE,
            quotechar=self.quote or None,
        )
        try:
            writer.writerow(names)
        except standard.Error as error:
            raise DataError(
                f"CSV without quotes cannot hold the columns {names}: {error}"
            ) from None
        return text.getvalue().encode()

    def _check_text(self, table: pa.Table) -> None:
        """Find text that would be read back as something else."""
        for name, column in zip(table.column_names, table.columns, strict=True):
            if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                continue
            if (
                not self.quote
                and pc.any(pc.is_in(column, pa.array(self.nulls, column.type))).as_py()
            ):
                raise DataError(
                    f"CSV without quotes cannot hold column {name!r}: it has texts that are read "
                    f"as null (nulls={self.nulls})"
                )
            if not self.newlines_in_values:
                lines = pc.any(pc.match_substring_regex(column, r"[\r\n]")).as_py()
                if lines:
                    raise DataError(
                        f"column {name!r} has line ends within its texts; set newlines_in_values"
                    )


@dataclass(frozen=True, kw_only=True)
class Tsv(Csv):
    """Tab-separated values: CSV with another delimiter."""

    name: ClassVar[str] = "tsv"
    suffixes: ClassVar[tuple[str, ...]] = (".tsv",)

    delimiter: str = "\t"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _holds(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return pa.types.is_string(kind.value_type)
    if pa.types.is_timestamp(kind):
        return kind.tz in (None, "UTC")
    return (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_date32(kind)
        or pa.types.is_time(kind)
        or pa.types.is_decimal128(kind)
    )


def _reason(text: str, columns: tuple[str, ...]) -> str:
    """Say what is wrong with one record in the words of a reader of the file."""
    match = _PLACE.match(text)
    if match is None:
        return _ROW.sub("", text)
    number = int(match[1])
    name = columns[number] if number < len(columns) else f"#{number}"
    return f"column {name!r}: not {match[2]}"


register_format(Csv())
register_format(Tsv())
