"""From one file format to another: in blocks, whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from weiml.data.formats.base import BadRow, Format, OnBadRow, format_of
from weiml.errors import DataError

__all__ = ["Conversion", "convert"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What `convert` did."""

    rows: int
    """Rows written."""
    bad_rows: int
    """Rows of the source that could not be read and were told to `on_bad`."""
    schema: pa.Schema


def convert(
    source: str | Path,
    target: str | Path,
    *,
    source_format: str | Format | None = None,
    target_format: str | Format | None = None,
    schema: pa.Schema | None = None,
    on_bad: OnBadRow | None = None,
) -> Conversion:
    """Write the rows of one file as another, a block at a time.

    The target appears under its name only when it is whole; a target that was there before stays
    as it was until then. Not more than a few blocks are in memory at once.

    Args:
        source: a file.
        target: the file to write; its folder must exist.
        source_format: of the source; told from its name if None.
        target_format: of the target; told from its name if None.
        schema: the columns to take, and their types; all, as the source tells them, if None.
        on_bad: takes each row that cannot be read, which is then left out.

    Raises:
        ConfigError: no format has such files.
        DataError: the source is damaged or has a bad row (without `on_bad`), or the target's format
            cannot hold a column or value. Names the file.
        OSError: a file cannot be opened or written.
    """
    reader = format_of(str(source), source_format)
    writer = format_of(str(target), target_format)
    bad = 0

    def count_bad(row: BadRow) -> None:
        nonlocal bad
        bad += 1
        if on_bad is not None:
            on_bad(row)

    path = Path(target)
    with open(source, "rb") as file, _aside(path) as aside, aside.open("wb") as out:
        with _about(source):
            told = schema or reader.schema(file)
            file.seek(0)
        with _about(target):
            writer.check(told)
        # Rows are read under the schema that was asked for: a column new to later rows is told.
        tables = reader.read(file, schema=schema, on_bad=count_bad if on_bad else None)
        rows = _Counted(tables, source)
        first = next(rows, None)
        found = told if first is None else first.schema
        with _about(target):
            writer.write(out, itertools.chain([] if first is None else [first], rows), found)
    return Conversion(rows=rows.count, bad_rows=bad, schema=found)


class _Counted(Iterator[pa.Table]):
    """Tables on their way, their rows counted; errors name the file that they come from."""

    def __init__(self, tables: Iterator[pa.Table], source: str | Path) -> None:
        self._tables = tables
        self._source = source
        self.count = 0

    def __next__(self) -> pa.Table:
        try:
            table = next(self._tables)
        except DataError as error:
            raise _NamedError(f"{self._source}: {error}") from None
        self.count += table.num_rows
        return table


class _NamedError(DataError):
    """A DataError whose message names its file already."""


@contextlib.contextmanager
def _about(path: str | Path) -> Iterator[None]:
    """Name the file in the errors of the body."""
    try:
        yield
    except _NamedError as error:
        raise DataError(str(error)) from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, which takes its place if the body ends well."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
