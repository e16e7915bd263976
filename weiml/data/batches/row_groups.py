"""Ranges of the rows of Parquet files, decoded a bounded number of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weiml.errors import DataError

__all__ = ["read_blocks", "read_footer"]

LONG_GROUP = 1 << 19
"""Rows of a row group from which on its dictionaries cost more than they save: each block of it
has them whole."""


def read_footer(path: Path) -> pq.FileMetaData:
    """Return what a file's footer says.

    Raises:
        DataError: there is no such file, or it is no whole Parquet file.
    """
    try:
        return pq.read_metadata(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no whole Parquet file: {error}") from None


def read_blocks(
    paths: Sequence[Path],
    columns: Sequence[str],
    start: int,
    stop: int,
    *,
    rows_per_block: int,
    dictionaries: Sequence[str] = (),
    use_threads: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield rows `start` to `stop` of files one after the other, in their order.

    Args:
        paths: whole Parquet files.
        columns: to be read.
        start: number of the first row.
        stop: number of the row after the last one.
        rows_per_block: how many are decoded at a time; row groups outside are not read.
        dictionaries: columns of strings that stay dictionaries, except in long row groups.
        use_threads: whether Arrow's threads decode several columns at a time.

    Raises:
        DataError: a file is damaged.
    """
    first = 0
    for path in paths:
        footer = read_footer(path)
        groups = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        if first >= stop or first + sum(groups) <= start:
            first += sum(groups)
            continue
        kept = list(dictionaries) if max(groups) < LONG_GROUP else None
        with pq.ParquetFile(path, metadata=footer, memory_map=True, read_dictionary=kept) as file:
            for group, rows in enumerate(groups):
                last = first + rows
                if first < stop and last > start:
                    at = first
                    # Group by group: a block over two would have its dictionaries unified.
                    for block in _decoded(file, group, columns, rows_per_block, use_threads, path):
                        piece = block.slice(max(start - at, 0), max(stop - max(start, at), 0))
                        at += block.num_rows
                        if piece.num_rows:
                            yield piece
                first = last


def _decoded(
    file: pq.ParquetFile,
    group: int,
    columns: Sequence[str],
    rows_per_block: int,
    use_threads: bool,
    path: Path,
) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(
            rows_per_block, row_groups=[group], columns=list(columns), use_threads=use_threads
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"row group {group} of {path} cannot be read: {error}") from None
