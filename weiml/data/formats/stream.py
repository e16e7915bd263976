"""Formats that are read from the first byte to the last: compression, bad rows, blocks of rows.

A `StreamFormat` leaves to each format only what is its own: `_schema`, `_read` and `_write` on
plain bytes.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Self, cast

import pyarrow as pa

from weiml.config import nearest
from weiml.data.formats.base import ROWS_PER_BLOCK, BadRow, Format, OnBadRow
from weiml.data.formats.compression import (
    CODECS,
    Codec,
    codec_of_bytes,
    compressing,
    decompressed,
)
from weiml.errors import ConfigError, DataError

__all__ = ["BadRows", "StreamFormat", "bisect_rows", "sliced"]

_HEAD = 16
_RAW = 4096


class BadRows:
    """What becomes of rows that cannot be read: told to `on_bad`, or the end of the reading."""

    def __init__(self, on_bad: OnBadRow | None) -> None:
        self._on_bad = on_bad

    def add(self, place: str, reason: str, raw: bytes) -> None:
        """Leave a row out.

        Raises:
            DataError: bad rows are not wanted.
        """
        if self._on_bad is None:
            raise DataError(f"{place}: {reason}")
        self._on_bad(BadRow(place=place, reason=reason, raw=bytes(raw[:_RAW])))


@dataclass(frozen=True, kw_only=True)
class StreamFormat(Format):
    """A format read forward only, so that its files may be compressed as a whole.

    Reading finds a compression by itself; `compression` is that of writing.
    """

    compression: Codec | None = None

    def __post_init__(self) -> None:
        if self.compression is not None and self.compression not in CODECS:
            known = nearest(str(self.compression), CODECS)
            raise ConfigError(
                f"compression must be one of {CODECS}, got {self.compression!r}{known}"
            )

    def compressed(self, codec: Codec) -> Self:
        """Return the format that writes with `codec`, unless another compression was asked for."""
        return replace(self, compression=self.compression or codec)

    def schema(self, file: BinaryIO) -> pa.Schema:
        """Return the columns, told from the file's first block."""
        return self._schema(self._plain(file))

    def read(
        self,
        file: BinaryIO,
        *,
        schema: pa.Schema | None = None,
        piece: int | None = None,
        on_bad: OnBadRow | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the rows in their order; see `Format.read`. The file is one piece.

        Columns that a given schema does not name are passed over. Where none is given, a row that
        has a column unknown to the first block cannot be read.
        """
        if piece not in (None, 0):
            raise ConfigError(f"{self.name} files are one piece, 0; got piece={piece}")
        for table in self._read(self._plain(file), schema, BadRows(on_bad)):
            yield from sliced(table)

    def write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Write tables of `schema`, in order, as one file.

        Raises:
            DataError: the format cannot hold such a column (then nothing has been written), or one
                of its values.
        """
        self.check(schema)
        with compressing(file, self.compression) as plain:
            self._write(plain, tables, schema)

    def _plain(self, file: BinaryIO) -> BinaryIO:
        head = file.read(_HEAD)
        file.seek(-len(head), io.SEEK_CUR)
        return decompressed(file, self._codec(head))

    def _codec(self, head: bytes) -> Codec | None:
        """Return the compression of a file that begins so."""
        return codec_of_bytes(head)

    @abstractmethod
    def _schema(self, file: BinaryIO) -> pa.Schema: ...

    @abstractmethod
    def _read(
        self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows
    ) -> Iterator[pa.Table]: ...

    @abstractmethod
    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None: ...


def sliced(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table in slices of at most `ROWS_PER_BLOCK` rows; nothing for an empty one."""
    for start in range(0, table.num_rows, ROWS_PER_BLOCK):
        yield table.slice(start, ROWS_PER_BLOCK)


def bisect_rows(
    parse: Callable[[int, int], pa.Table],
    rows: int,
    on_fail: Callable[[int, str], None],
) -> Iterator[pa.Table]:
    """Parse rows 0 … `rows` in ever smaller ranges, until each one that fails stands alone.

    Every bad row costs about two parses of the whole, in ranges that halve.

    Args:
        parse: returns the table of a range, or raises ArrowInvalid.
        rows: how many there are.
        on_fail: told of each bad row and of the reason, in their order.
    """
    ranges = [(0, rows)] if rows else []
    while ranges:
        start, stop = ranges.pop()
        try:
            table = parse(start, stop)
        except pa.ArrowInvalid as error:
            if stop - start == 1:
                on_fail(start, " ".join(str(error).split()))
            else:
                middle = (start + stop) // 2
                ranges += [(middle, stop), (start, middle)]
            continue
        yield cast(pa.Table, table)
