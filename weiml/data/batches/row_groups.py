"""Ranges of the rows of Parquet files, decoded a bounded number of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weiml.errors import DataError

__all__ = ["kind_of", "read_blocks", "read_footer"]

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
    except OSError as error:  # a folder, one that may not be read
        raise DataError(f"{path} cannot be read: {error}") from None


def kind_of(type: pa.DataType) -> str:
    """Return what values of a column are: columns of one kind can stand for each other.

    ``text``, ``number`` (flags too), ``bytes``, ``nothing`` (all null); of other types their names,
    of lists with the kind of their entries.
    """
    is_a = pa.types
    if is_a.is_dictionary(type):
        return kind_of(type.value_type)
    if is_a.is_null(type):
        return "nothing"
    if is_a.is_string(type) or is_a.is_large_string(type) or is_a.is_string_view(type):
        return "text"
    if is_a.is_decimal(type) or (is_a.is_primitive(type) and not is_a.is_temporal(type)):
        return "number"
    if is_a.is_binary(type) or is_a.is_large_binary(type) or is_a.is_binary_view(type):
        return "bytes"
    if is_a.is_list(type) or is_a.is_large_list(type) or is_a.is_fixed_size_list(type):
        return f"list of {kind_of(type.value_type)}"
    return str(type).partition("[")[0]  # "timestamp", whatever its unit


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
        kept = [] if max(groups, default=0) >= LONG_GROUP else _texts(footer, dictionaries)
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


def _texts(footer: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """Return which of the columns hold text in this file: only these can stay dictionaries."""
    schema = footer.schema.to_arrow_schema()
    return [name for name in columns if kind_of(schema.field(name).type) == "text"]


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
