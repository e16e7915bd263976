"""One growing file: told apart from others by what it holds, read by whole lines."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weiml.errors import DataError

__all__ = ["Tail", "same_content"]

_MARK = 256  # bytes at the beginning, and before the position, by which a file is known again


@dataclass(eq=False)
class Tail:
    """An open file and how far it was read. Not thread-safe."""

    path: Path
    name: str
    """Of the partition; the same as long as the file holds what it held, whatever its path."""
    offset: int = 0
    empty_at: int = -1
    """The file's size when no whole line was left; lines may wait at any other size."""
    read_at: float = 0.0
    """When lines were last read from it, by the reader's clock."""
    descriptor: int = -1
    _checked_at: int = -1
    _marks: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, now: float, name: str, offset: int = 0) -> Tail:
        """Open a file for reading, from a position on.

        Raises:
            OSError: it cannot be opened.
        """
        tail = cls(path, name, offset, read_at=now)
        tail.descriptor = os.open(path, os.O_RDONLY)
        tail._marks = tail._marked()
        return tail

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        told = os.fstat(self.descriptor)
        return told.st_dev, told.st_ino

    @property
    def size(self) -> int:
        """Bytes that the file has now."""
        return os.fstat(self.descriptor).st_size

    @property
    def waiting(self) -> int:
        """Bytes that wait, 0 if they are known to be no whole line."""
        size = self.size
        return 0 if size == self.empty_at else max(size - self.offset, 0)

    def lines(self, at_most: int, longest: int, closed: bool) -> bytes:
        """Return whole lines from the position, about `at_most` bytes, without moving it.

        Args:
            at_most: how much to read.
            longest: how long a line may be.
            closed: take a last line without its newline, and give it one.

        Raises:
            DataError: a line is longer than `longest`.
        """
        size = self.size
        while True:
            data = os.pread(self.descriptor, at_most, self.offset)
            end = data.rfind(b"\n") + 1
            if end:
                return data[:end] if end < len(data) else data
            if len(data) > longest:
                raise DataError(
                    f"{self.path}: the line at byte {self.offset} is longer than "
                    f"max_event_bytes = {longest}; raise it, or mend the file"
                )
            if self.offset + len(data) >= size:
                break
            at_most = min(2 * at_most, longest + 1)
        if closed and data:
            return data + b"\n"
        self.empty_at = size
        return b""

    def advance(self, offset: int, now: float) -> None:
        """Move the position."""
        self.offset, self.read_at = offset, now
        self._marks = self._marked()

    def restart_if_cut(self) -> bool:
        """Begin at the file's beginning if it holds something else than before.

        It is shorter than what was read, or that is not what it begins with any more. It is another
        file then, and needs another name.
        """
        size = self.size
        if size == self._checked_at:
            return False
        self._checked_at = size
        if size >= self.offset and self._marked() == self._marks:
            return False
        self.offset, self.empty_at = 0, -1
        self._marks = self._marked()
        return True

    def position(self) -> dict[str, Any]:
        """Return all that is needed to find the file and the place again."""
        device, inode = self.identity
        return {
            "path": str(self.path),
            "device": device,
            "inode": inode,
            "offset": self.offset,
            "size": self.size,
            **self._marks,
        }

    def _marked(self) -> dict[str, list[int]]:
        """Return length and CRC-32 of what lies at the beginning and before the position."""
        head = os.pread(self.descriptor, min(_MARK, self.offset), 0)
        start = max(self.offset - _MARK, 0)
        before = os.pread(self.descriptor, self.offset - start, start)
        return {
            "head": [len(head), zlib.crc32(head)],
            "before": [len(before), zlib.crc32(before)],
        }


def same_content(path: Path, position: dict[str, Any]) -> bool:
    """Return whether a file is the one of `position`, grown or not, by what it holds."""
    try:
        with path.open("rb") as file:
            head = file.read(position["head"][0])
            file.seek(position["offset"] - position["before"][0])
            before = file.read(position["before"][0])
    except OSError:
        return False
    told = [position["head"], position["before"]]
    return [[len(part), zlib.crc32(part)] for part in (head, before)] == told
