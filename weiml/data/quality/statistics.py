"""Statistics of a table in one pass: parts merge, states are saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from weiml.data.formats import FORMATS, format_of
from weiml.data.quality.columns import ColumnStatistics, type_text
from weiml.errors import DataError
from weiml.files import written_aside

__all__ = ["TableStatistics", "read_statistics", "statistics_of"]

_VERSION = 1


class TableStatistics:
    """What a table is like, column by column. Picklable; not thread-safe.

    >>> seen = TableStatistics()
    >>> seen.add(pa.table({"age": [30, None, 50], "city": ["x", "y", "x"]}))
    >>> seen.columns["age"].numbers.mean, seen.columns["city"].values.top(1)
    (40.0, [('x', 2)])
    """

    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, ColumnStatistics] = {}

    def add(self, table: pa.Table) -> None:
        """Take in the rows of a table. A column that a table lacks is missing in all its rows.

        Raises:
            DataError: a column is of another type than before.
        """
        for field in table.schema:
            if field.name not in self.columns:
                self.columns[field.name] = self._late(type_text(field.type))
        for name, column in self.columns.items():
            with _about(name):
                if name in table.column_names:
                    column.add(table[name])
                else:
                    column.count += table.num_rows
                    column.missing += table.num_rows
        self.rows += table.num_rows

    def _late(self, kind: str) -> ColumnStatistics:
        """Return statistics of a column that the rows so far lacked."""
        column = ColumnStatistics(kind)
        column.count = column.missing = self.rows
        return column

    def merge(self, other: TableStatistics) -> None:
        """Take in what another one has seen.

        Raises:
            DataError: a column is of another type there.
        """
        for name, column in other.columns.items():
            if name not in self.columns:
                self.columns[name] = self._late(column.type)
            with _about(name):
                self.columns[name].merge(column)
        for name, column in self.columns.items():
            if name not in other.columns:
                column.count += other.rows
                column.missing += other.rows
        self.rows += other.rows

    def features(self) -> dict[str, ColumnStatistics]:
        """Return all columns and their parts by dotted names: ``genres``, ``genres.item``."""
        return dict(_flat(self.columns, ""))

    def to_mapping(self) -> dict[str, Any]:
        """Return the state as plain dictionaries, lists and numbers."""
        columns = {name: column.to_mapping() for name, column in self.columns.items()}
        return {"version": _VERSION, "rows": self.rows, "columns": columns}

    @classmethod
    def from_mapping(cls, tree: dict[str, Any]) -> TableStatistics:
        """Return the one whose `to_mapping` is given.

        Raises:
            DataError: it is of another version or damaged.
        """
        if not isinstance(tree, dict) or tree.get("version") != _VERSION:
            raise DataError(f"these are no statistics of version {_VERSION}")
        made = cls()
        try:
            made.rows = int(tree["rows"])
            for name, column in tree["columns"].items():
                made.columns[name] = ColumnStatistics.from_mapping(column)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"statistics are damaged: {type(error).__name__} {error}") from None
        return made

    def save(self, path: str | Path) -> None:
        """Write the state as JSON; the file appears when it is whole."""
        text = json.dumps(self.to_mapping(), allow_nan=False, ensure_ascii=False)
        with written_aside(path) as aside:
            aside.write_text(text + "\n", encoding="utf-8")


def statistics_of(tables: Iterable[pa.Table]) -> TableStatistics:
    """Return the statistics of all rows."""
    seen = TableStatistics()
    for table in tables:
        seen.add(table)
    return seen


def read_statistics(path: str | Path) -> TableStatistics:
    """Return saved statistics (a ``.json`` file), or those of a data file or of a folder of them.

    Raises:
        DataError: statistics or data are damaged, or a folder holds no data. Names the file.
        ConfigError: no format has such files.
        OSError: a file cannot be opened.
    """
    place = Path(path)
    if place.suffix == ".json":
        try:
            return TableStatistics.from_mapping(json.loads(place.read_text(encoding="utf-8")))
        except (DataError, ValueError) as error:
            raise DataError(f"{place}: {error}") from None
    files = _data_files(place) if place.is_dir() else [place]
    return statistics_of(table for file in files for table in _tables(file))


def _data_files(folder: Path) -> list[Path]:
    suffixes = tuple(suffix for known in FORMATS.values() for suffix in known.suffixes)
    packed = tuple(suffix + end for suffix in suffixes for end in ("", ".gz", ".zst", ".bz2"))
    files = [file for file in sorted(folder.rglob("*")) if file.name.endswith(packed)]
    shown = [file for file in files if not file.name.startswith((".", "_"))]
    if not shown:
        raise DataError(f"{folder} holds no data files ({', '.join(suffixes)})")
    return shown


def _tables(file: Path) -> Iterator[pa.Table]:
    with file.open("rb") as opened:
        try:
            yield from format_of(str(file)).read(opened)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None


def _flat(
    columns: dict[str, ColumnStatistics], prefix: str
) -> Iterator[tuple[str, ColumnStatistics]]:
    for name, column in columns.items():
        yield prefix + name, column
        yield from _flat(column.parts, f"{prefix}{name}.")


class _about:  # noqa: N801 - reads as a word
    """Name the column in the errors of the body."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DataError):
            raise DataError(f"column {self._name!r} {error}") from None
