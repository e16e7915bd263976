"""Tables in memory as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from weiml.data.sources.base import FeatureSource, Piece
from weiml.errors import DataError

__all__ = ["TableSource"]


class TableSource(FeatureSource):
    """Arrow tables of one schema, each a piece.

    Raises:
        DataError: there is no table, or their columns differ.
    """

    def __init__(self, tables: pa.Table | Sequence[pa.Table]) -> None:
        self._tables = [tables] if isinstance(tables, pa.Table) else list(tables)
        if not self._tables:
            raise DataError("a source needs at least one table, if only to know its columns")
        for table in self._tables:
            if not table.schema.equals(self._tables[0].schema):
                raise DataError(
                    f"tables of one source must have the same columns, got "
                    f"{self._tables[0].schema.names} and {table.schema.names}, or other types"
                )

    def __str__(self) -> str:
        return f"{sum(table.num_rows for table in self._tables):,} rows in memory"

    def schema(self) -> pa.Schema:
        """Return the tables' columns."""
        return self._tables[0].schema

    def pieces(self) -> list[Piece]:
        """Return a piece for each table."""
        return [_TablePiece(table) for table in self._tables]


class _TablePiece(Piece):
    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.num_bytes = table.nbytes

    def read(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the table."""
        yield self.table.select(schema.names)
