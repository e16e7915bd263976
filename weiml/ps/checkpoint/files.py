"""Files of a checkpoint as they are written: summed on the way, and on the disk when closed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import pyarrow as pa
import pyarrow.ipc

from weiml.ps.checkpoint.checksum import Bytes, Checksum
from weiml.ps.checkpoint.direct import begin_writing
from weiml.ps.checkpoint.storage import Folder, failing, opened

__all__ = ["ArrowParts", "FileWriter", "Part", "Span", "Syncer"]

Span: TypeAlias = tuple[int, int]

_PIECE = 1 << 20
_SMALL = 1 << 14


class FileWriter:
    """A new file, whose checksum is taken while it is written. Fit to be an Arrow sink."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.name = name
        self.place = folder.path_of(name)
        self.closed = False
        self._given_up = False
        self._is_local = folder.is_local
        self._checksum = Checksum()
        self._begun = 0  # bytes that the disk was told to write
        with failing(self.place, "written"):
            if folder.is_local:
                self._file: Any = open(self.place, "xb")  # noqa: SIM115
            else:
                fs, path = opened(self.place)
                self._file = fs.open(path, "wb")

    @property
    def bytes(self) -> int:
        """How many bytes were written."""
        return self._checksum.length

    @property
    def checksum(self) -> str:
        """The checksum of what was written."""
        return self._checksum.hexdigest()

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self._checksum.length

    def write(self, data: Bytes) -> int:
        """Append the bytes of a buffer."""
        view: memoryview = memoryview(data).cast("B")  # type: ignore[arg-type]
        if self._given_up:
            return len(view)  # Arrow lets go of what it still holds
        with failing(self.place, "written"):
            for start in range(0, len(view), _PIECE):
                piece = view[start : start + _PIECE]
                self._file.write(piece)
                self._checksum.update(piece)  # while the piece is in cache
            if self._is_local and self._checksum.length - self._begun >= _PIECE:
                # The disk is at work while the rest is written, and `close` waits for less.
                begin_writing(self._file.fileno(), self._begun, self._checksum.length)
                self._begun = self._checksum.length
        return len(view)

    def flush(self) -> None:
        """Do nothing: `close` flushes."""

    def close(self) -> None:
        """Finish the file; on return a local one is on the disk, any other where it belongs."""
        if self.closed:
            return
        self.closed = True
        with failing(self.place, "written"):
            try:
                if self._is_local:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            finally:
                self._file.close()

    def discard(self) -> None:
        """Give the file up: upload no more of it."""
        if self.closed:
            return
        self.closed = self._given_up = True
        try:
            if hasattr(self._file, "discard"):
                self._file.discard()
                self._file.closed = True  # fsspec would close it, uploading, when it is collected
            elif self._is_local:
                self._file.close()
        except Exception:
            return  # the error that led here is the one to tell


class Syncer:
    """Finishes files beside the one who writes them, so that disk or network work meanwhile.

    At most `num_files` are unfinished at a time. The threads end with the ``with`` block.
    """

    def __init__(self, num_files: int) -> None:
        self._num_files = num_files
        self._pool = ThreadPoolExecutor(num_files, thread_name_prefix="checkpoint-sync")
        self._pending: deque[tuple[Future[None], FileWriter]] = deque()

    def close(self, file: FileWriter) -> None:
        """Close `file` soon; wait while too many are not closed yet."""
        self._pending.append((self._pool.submit(file.close), file))
        while len(self._pending) > self._num_files:
            self._wait()

    def finish(self) -> None:
        """Wait for all files; raise the first error."""
        while self._pending:
            self._wait()

    def _wait(self) -> None:
        done, _ = self._pending.popleft()
        done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for done, file in self._pending:
            if done.cancel():
                file.discard()
        self._pool.shutdown(wait=True)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One finished file of several."""

    name: str
    rows: int
    bytes: int
    checksum: str
    spans: list[Span]
    """What was said of each batch in it."""


class ArrowParts:
    """Batches of one schema, in as many Arrow files as their size asks for; none without batches.

    Args:
        folder: where.
        stem: the files' names are ``STEM-00000.arrow`` and so on.
        schema: of all batches.
        part_bytes: a file that has reached this size is followed by another; None: one file.
        syncer: closes the files.
        record: told of each file once all of it is written.
    """

    def __init__(
        self,
        *,
        folder: Folder,
        stem: str,
        schema: pa.Schema,
        part_bytes: int | None,
        syncer: Syncer,
        record: Callable[[Part], None],
    ) -> None:
        self._folder = folder
        self._stem = stem
        self._schema = schema
        self._part_bytes = part_bytes
        self._syncer = syncer
        self._record = record
        self._count = 0
        self._file: FileWriter | None = None
        self._stream: Any = None
        self._sink: Any = None
        self._rows = 0
        self._spans: list[Span] = []

    def add(self, batch: pa.RecordBatch, span: Span = (0, 0)) -> None:
        """Write a batch; `span` says where its content lies."""
        if self._file is None:
            self._begin()
        self._sink.write_batch(batch)
        self._rows += batch.num_rows
        self._spans.append(span)
        if self._part_bytes is not None and self._stream.tell() >= self._part_bytes:
            self.finish()

    def finish(self) -> None:
        """End the file that is being written, if there is one; on an error give it up."""
        if self._file is None:
            return
        try:
            self._sink.close()
            self._stream.detach()  # flushed; the file is closed by another
            self._record(
                Part(
                    name=self._file.name,
                    rows=self._rows,
                    bytes=self._file.bytes,
                    checksum=self._file.checksum,
                    spans=self._spans,
                )
            )
        except BaseException:
            self.discard()
            raise
        file = self._file
        self._file = self._stream = self._sink = None
        self._syncer.close(file)

    def discard(self) -> None:
        """Give up the file that is being written, if there is one."""
        if self._file is not None:
            self._file.discard()
        # Arrow writes what it still holds when these go, which is nowhere now.
        self._file = self._stream = self._sink = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.discard()

    def _begin(self) -> None:
        self._file = FileWriter(self._folder, f"{self._stem}-{self._count:05d}.arrow")
        # Arrow writes a batch in many small pieces beside the large ones.
        raw = pa.PythonFile(self._file, mode="w")
        self._stream = pa.BufferedOutputStream(raw, buffer_size=_SMALL)
        self._sink = pa.ipc.new_file(self._stream, self._schema)
        self._count += 1
        self._rows, self._spans = 0, []
