"""Parquet: columns by row groups, compressed; what weiml keeps examples in between programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from weiml.data.formats.base import ROWS_PER_BLOCK, Format, OnBadRow, pick, register_format
from weiml.errors import ConfigError, DataError

__all__ = ["Parquet"]


@dataclass(frozen=True, kw_only=True)
class Parquet(Format):
    """Parquet files; a row group is a piece."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    compression: str = "zstd"
    rows_per_group: int = 1 << 18

    def __post_init__(self) -> None:
        if self.rows_per_group < 1:
            raise ConfigError(f"rows_per_group must be at least 1, got {self.rows_per_group}")

    def schema(self, file: BinaryIO) -> pa.Schema:
        """Return the columns that the footer names."""
        return _open(file).schema_arrow

    def pieces(self, file: BinaryIO) -> int:
        """Return the number of row groups, at least 1."""
        return max(_open(file).num_row_groups, 1)

    def read(
        self,
        file: BinaryIO,
        *,
        schema: pa.Schema | None = None,
        piece: int | None = None,
        on_bad: OnBadRow | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the rows of one row group, or of all; a damaged group is an error always."""
        opened = _open(file)
        if schema is not None:
            pick(opened.schema_arrow.names, schema)
        groups = list(range(opened.num_row_groups)) if piece is None else [piece]
        names = None if schema is None else schema.names
        try:
            if opened.num_row_groups:
                for batch in opened.iter_batches(ROWS_PER_BLOCK, row_groups=groups, columns=names):
                    table = pa.Table.from_batches([batch])
                    yield table if schema is None else table.select(names).cast(schema)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"row groups {groups} cannot be read: {error}") from None

    def write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Write row groups of at most `rows_per_group` rows."""
        with pq.ParquetWriter(file, schema, compression=self.compression) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=self.rows_per_group)


def _open(file: BinaryIO) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"not a whole Parquet file: {error}") from None


register_format(Parquet())
