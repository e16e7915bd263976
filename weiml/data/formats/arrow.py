"""Arrow IPC: record batches as they lie in memory, as a file with an index or as a stream."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Literal

import pyarrow as pa
import pyarrow.ipc

from weiml.data.formats.base import ROWS_PER_BLOCK, Format, OnBadRow, pick, register_format
from weiml.data.formats.stream import sliced
from weiml.errors import ConfigError, DataError

__all__ = ["Arrow", "ArrowStream"]

_MAGIC = b"ARROW1"


@dataclass(frozen=True, kw_only=True)
class Arrow(Format):
    """Arrow IPC files; a record batch is a piece. Streams are read too, as one piece."""

    name: ClassVar[str] = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather", ".ipc")

    compression: Literal["lz4", "zstd"] | None = "lz4"
    """Of the buffers inside; files without are the ones that can be mapped into memory."""
    rows_per_batch: int = ROWS_PER_BLOCK

    def __post_init__(self) -> None:
        if self.compression not in (None, "lz4", "zstd"):
            raise ConfigError(f"compression must be lz4, zstd or None, got {self.compression!r}")
        if self.rows_per_batch < 1:
            raise ConfigError(f"rows_per_batch must be at least 1, got {self.rows_per_batch}")

    def schema(self, file: BinaryIO) -> pa.Schema:
        """Return the schema message."""
        return _open(file).schema

    def pieces(self, file: BinaryIO) -> int:
        """Return the number of record batches of a file, at least 1; 1 for a stream."""
        opened = _open(file)
        if isinstance(opened, pa.RecordBatchFileReader):
            return max(opened.num_record_batches, 1)
        return 1

    def read(
        self,
        file: BinaryIO,
        *,
        schema: pa.Schema | None = None,
        piece: int | None = None,
        on_bad: OnBadRow | None = None,
    ) -> Iterator[pa.Table]:
        """Yield the rows of one record batch, or of all; a damaged batch is an error always."""
        opened = _open(file)
        if schema is not None:
            pick(opened.schema.names, schema)
        try:
            for batch in _batches(opened, piece):
                table = pa.Table.from_batches([batch])
                yield from sliced(
                    table if schema is None else table.select(schema.names).cast(schema)
                )
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"record batches cannot be read: {error}") from None

    def write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Write record batches of at most `rows_per_batch` rows."""
        options = pa.ipc.IpcWriteOptions(compression=self.compression)
        with self._writer(file, schema, options) as writer:
            for table in tables:
                for batch in table.combine_chunks().to_batches(self.rows_per_batch):
                    writer.write_batch(batch)

    def _writer(
        self, file: BinaryIO, schema: pa.Schema, options: pa.ipc.IpcWriteOptions
    ) -> pa.ipc.RecordBatchFileWriter | pa.ipc.RecordBatchStreamWriter:
        return pa.ipc.new_file(file, schema, options=options)


@dataclass(frozen=True, kw_only=True)
class ArrowStream(Arrow):
    """Arrow IPC streams: without an index, so they can be written to a pipe and read from one."""

    name: ClassVar[str] = "arrow-stream"
    suffixes: ClassVar[tuple[str, ...]] = (".arrows",)

    def _writer(
        self, file: BinaryIO, schema: pa.Schema, options: pa.ipc.IpcWriteOptions
    ) -> pa.ipc.RecordBatchFileWriter | pa.ipc.RecordBatchStreamWriter:
        return pa.ipc.new_stream(file, schema, options=options)


def _open(file: BinaryIO) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    head = file.read(len(_MAGIC))
    file.seek(-len(head), io.SEEK_CUR)
    try:
        return pa.ipc.open_file(file) if head == _MAGIC else pa.ipc.open_stream(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"not a whole Arrow file or stream: {error}") from None


def _batches(
    opened: pa.RecordBatchFileReader | pa.RecordBatchStreamReader, piece: int | None
) -> Iterator[pa.RecordBatch]:
    if not isinstance(opened, pa.RecordBatchFileReader):
        if piece not in (None, 0):
            raise ConfigError(f"an Arrow stream is one piece, 0; got piece={piece}")
        yield from opened
        return
    places = range(opened.num_record_batches) if piece is None else [piece]
    for place in places:
        if place < opened.num_record_batches:
            yield opened.get_batch(place)


register_format(Arrow())
register_format(ArrowStream())
