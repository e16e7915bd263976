"""Where the records of a CSV file begin and end, when quoted fields may hold line ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numba
import numpy as np

from weiml.data.formats.lines import LONGEST_LINE
from weiml.errors import DataError

__all__ = ["RecordBlock", "record_blocks"]

BYTES_PER_BLOCK = 1 << 23

_BOM = b"\xef\xbb\xbf"
_NEWLINE = 10


@dataclass(frozen=True)
class RecordBlock:
    """Whole records of a file, blank lines among them."""

    data: bytes
    bounds: np.ndarray
    """Where each record starts, int64, and the end of the last one."""
    lines: np.ndarray
    """The number of each record's first line, int64."""
    columns: tuple[str, ...] = ()

    def of(self, columns: tuple[str, ...]) -> RecordBlock:
        """Return the block with its columns; blank lines are records of a single column only."""
        if len(columns) == 1:
            return replace(self, columns=columns)
        sizes = np.diff(self.bounds)
        data = np.frombuffer(self.data, np.uint8)
        first = data[self.bounds[:-1]]
        blank = (first == _NEWLINE) | ((first == 13) & (sizes == 2))
        if not blank.any():
            return replace(self, columns=columns)
        pieces = zip(self.bounds[:-1][~blank], self.bounds[1:][~blank], strict=True)
        kept = b"".join([self.data[start:stop] for start, stop in pieces])
        bounds = np.concatenate([[0], np.cumsum(sizes[~blank])])
        return RecordBlock(kept, bounds, self.lines[~blank], columns)

    @property
    def size(self) -> int:
        """The number of records."""
        return len(self.lines)

    def after(self, count: int) -> RecordBlock:
        """Return the block without its first records."""
        return replace(self, bounds=self.bounds[count:], lines=self.lines[count:])

    def line(self, place: int) -> int:
        """Return the number of the record's first line, counted from 1."""
        return int(self.lines[place])

    def raw(self, place: int) -> bytes:
        """Return a record without its line end."""
        return self.data[self.bounds[place] : self.bounds[place + 1]].rstrip(b"\r\n")

    def bytes_of(self, start: int, stop: int) -> memoryview:
        """Return records as they lie."""
        return memoryview(self.data)[self.bounds[start] : self.bounds[stop]]


def record_blocks(
    file: BinaryIO, delimiter: str, quote: str, multiline: bool, size: int = BYTES_PER_BLOCK
) -> Iterator[RecordBlock]:
    """Yield the records of a file in blocks of about `size` bytes; a byte order mark is dropped.

    Raises:
        DataError: a record is longer than can be, as after a quote that never ends.
    """
    rest = b""
    line = 1
    start = True
    mark = ord(quote) if quote else -1
    while True:
        piece = file.read(size)
        if start:
            piece = piece.removeprefix(_BOM)
            start = False
        ended = not piece
        data = rest + piece
        if ended and data and not data.endswith(b"\n"):
            data += b"\n"
        ends, line_ends = _record_ends(
            np.frombuffer(data, np.uint8), ord(delimiter), mark, multiline
        )
        if len(ends):
            bounds = np.concatenate([[0], ends])
            lines = line + np.concatenate([[0], line_ends[:-1]])
            yield RecordBlock(data[: ends[-1]], bounds, lines)
            line += int(line_ends[-1])
        rest = data[int(ends[-1]) if len(ends) else 0 :]
        if (ended and rest) or len(rest) > LONGEST_LINE:
            raise DataError(
                f"line {line}: a quoted field that starts there never ends; if quotes are not "
                f"meant, set quote='' or newlines_in_values=False"
            )
        if ended:
            return


@numba.njit(nogil=True, cache=True)
def _record_ends(
    data: np.ndarray, delimiter: int, quote: int, multiline: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the end of each whole record and the count of line ends before it, both int64."""
    newlines = 0
    for byte in data:
        newlines += byte == _NEWLINE
    ends = np.empty(newlines, np.int64)
    lines = np.empty(newlines, np.int64)
    count = 0
    seen = 0
    quoted = False
    field_start = True
    for i in range(data.size):
        byte = data[i]
        if byte == _NEWLINE:
            seen += 1
            if not quoted or not multiline:
                ends[count] = i + 1
                lines[count] = seen
                count += 1
                quoted = False
                field_start = True
                continue
        if quoted:
            if byte == quote:
                # A doubled quote closes and opens again, which comes to the same.
                quoted = False
                field_start = i + 1 < data.size and data[i + 1] == quote
        elif byte == quote and field_start:
            quoted = True
            field_start = False
        else:
            field_start = byte == delimiter
    return ends[:count], lines[:count]
