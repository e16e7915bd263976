"""A durable log of lines in numbered files: what was acknowledged is read again after a crash.

    FOLDER/events-00000001.jsonl, events-00000002.jsonl, …

Many writers' lines go to disk together (group commit). Each start begins a new file, so that half a
line at the end of an older one, which nobody was told is safe, never meets another.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import re
import threading
import time
from concurrent.futures import Future
from io import FileIO
from pathlib import Path
from typing import IO, Literal, TypeAlias

from weiml.data.streams.durable import make_folder, sync
from weiml.errors import ConfigError, DataError

__all__ = ["EventLog", "Fsync"]

log = logging.getLogger(__name__)

Fsync: TypeAlias = Literal["always", "second"]
"""`always`: lines are on the disk before they are acknowledged, they survive a loss of power.
`second`: they are with the operating system, they survive a crash of the process; the disk has
them within a second."""

Entry: TypeAlias = tuple[bytes, Future[None]]

_NAME = re.compile(r"events-(\d{8})\.jsonl")
_SIZES_EVERY_S = 1.0  # between two looks at what readers have deleted


class EventLog:
    """Appends lines. Thread-safe.

    Args:
        folder: of this log alone; is made if it is not there.
        fsync: see `Fsync`.
        max_file_bytes: a new file begins beyond this.
        max_pending_bytes: how much may wait to be written.
        max_log_bytes: how much may lie in the folder, unread or not deleted by its reader.

    Raises:
        ConfigError: another log uses the folder.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        fsync: Fsync = "always",
        max_file_bytes: int = 256 << 20,
        max_pending_bytes: int = 64 << 20,
        max_log_bytes: int = 16 << 30,
    ) -> None:
        self.folder = Path(folder)
        self._fsync = fsync
        self._max_file_bytes = max_file_bytes
        self._max_pending_bytes = max_pending_bytes
        self._max_log_bytes = max_log_bytes
        make_folder(self.folder)
        self._lock: IO[str] = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(
                f"{folder} is written by another event log: give each a folder of its own"
            ) from None
        self._file: FileIO | None = None
        self._synced_at = time.monotonic()
        self._pending = 0
        self._guard = threading.Lock()
        self._closing = False
        self._sizes: tuple[float, int] = (-float("inf"), 0)
        self.error: str | None = None
        """Why the last write failed, or why none follows; None if all is well."""
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="event-log", daemon=True)
        self._thread.start()

    @property
    def pending_bytes(self) -> int:
        """What waits to be written."""
        return self._pending

    @property
    def log_bytes(self) -> int:
        """What lies in the folder; at most a second old."""
        now = time.monotonic()
        if now - self._sizes[0] >= _SIZES_EVERY_S:
            self._sizes = now, sum(_size(path) for path in self.folder.glob("events-*.jsonl"))
        return self._sizes[1]

    def has_room(self, size: int) -> bool:
        """Return whether `size` bytes can be taken now."""
        return (
            self._pending + size <= self._max_pending_bytes
            and self.log_bytes + size <= self._max_log_bytes
        )

    def append(self, lines: bytes) -> Future[None]:
        """Append whole lines, all or none; the future is done once they are safe, see `Fsync`.

        Lines whose future is cancelled before their turn are not written.

        Raises:
            DataError: `lines` does not end in a newline, or the log is closed or has failed for
                good.
        """
        if not lines.endswith(b"\n"):
            raise DataError("lines of an event log end in a newline")
        future: Future[None] = Future()
        with self._guard:
            if self._closing:
                raise DataError(self.error or f"the event log in {self.folder} is closed")
            self._pending += len(lines)
            self._queue.put((lines, future))
        return future

    def close(self) -> None:
        """Write what waits, and end. May be called twice."""
        with self._guard:
            if self._lock.closed:
                return
            self._closing = True
            self._queue.put(None)
        self._thread.join()
        self._lock.close()

    def _write_all(self) -> None:
        """Write until the log is closed; whatever happens, nobody waits for ever."""
        done = False
        try:
            while not done:
                batch, done = self._next_batch()
                self._write_batch(batch)
            self._drop_file()
        except BaseException as error:  # it must be told: from here on nothing is written
            self._tell(f"the writer of {self.folder} has ended: {error!r}")
        with self._guard:
            self._closing = True
        while not self._queue.empty():
            if (entry := self._queue.get_nowait()) is not None:
                entry[1].set_running_or_notify_cancel()
                self._settle([entry], DataError(self.error or f"{self.folder} is closed"))

    def _write_batch(self, batch: list[Entry]) -> None:
        failure: DataError | None = DataError(f"{self.folder} cannot be written")
        wanted = [entry for entry in batch if entry[1].set_running_or_notify_cancel()]
        try:
            if wanted:
                self._write(b"".join(lines for lines, _ in wanted))
                self.error = None
            else:
                self._sync_if_due()
            failure = None
        except BaseException as error:
            failure = self._tell(f"{self.folder} cannot be written: {error}")
            if not isinstance(error, Exception):
                raise
            self._drop_file()
        finally:
            self._settle(batch, failure)

    def _tell(self, text: str) -> DataError:
        self.error = text
        log.error("%s", text)
        return DataError(text)

    def _settle(self, batch: list[Entry], failure: DataError | None) -> None:
        """Say how it went for lines that wait no longer; for cancelled ones nobody asks."""
        for lines, future in batch:
            with self._guard:
                self._pending -= len(lines)
            if future.cancelled():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

    def _next_batch(self) -> tuple[list[Entry], bool]:
        """Return all that waits, at least one if any comes soon, and whether it is the end."""
        batch: list[Entry] = []
        try:
            entry = self._queue.get(timeout=1.0)
            while entry is not None:
                batch.append(entry)
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._new_file()
        left = memoryview(data)
        while len(left):
            left = left[self._file.write(left) :]  # unbuffered: it may take a part only
        if self._fsync == "always":
            os.fsync(self._file.fileno())
        else:
            self._sync_if_due()
        if self._file.tell() >= self._max_file_bytes:
            os.fsync(self._file.fileno())
            self._drop_file()

    def _new_file(self) -> FileIO:
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        number = max((int(match[1]) for match in matches if match), default=0) + 1
        file = FileIO(self.folder / f"events-{number:08d}.jsonl", "x")
        sync(self.folder)
        return file

    def _sync_if_due(self) -> None:
        if self._file is not None and time.monotonic() - self._synced_at >= 1.0:
            os.fsync(self._file.fileno())
            self._synced_at = time.monotonic()

    def _drop_file(self) -> None:
        """Leave the file, whole or not: lines that follow go to a new one."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                log.error("%s: %s", self.folder, error)
            self._file.close()
            self._file = None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # its reader has just deleted it
        return 0
