"""Text files by lines: blocks of whole lines, where each stands, and what is no UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numba
import numpy as np

from weiml.data.formats.stream import BadRows
from weiml.errors import DataError

__all__ = ["LONGEST_LINE", "LineBlock", "line_blocks", "without_bad_text"]

LONGEST_LINE = 1 << 26
"""Bytes; a longer line is taken for a file that is no text."""
BYTES_PER_BLOCK = 1 << 23

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LineBlock:
    """Whole lines of a file, each ended by a newline."""

    data: bytes
    first: int
    """The number of the first line, counted from 1."""

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each line starts, int64, and the end of the last one."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == 10) + 1
        return np.concatenate([[0], ends]).astype(np.int64)

    @cached_property
    def filled(self) -> np.ndarray:
        """The places of the lines that are not blank, int64."""
        return np.flatnonzero(_has_ink(np.frombuffer(self.data, np.uint8), self.starts))

    def line(self, place: int) -> bytes:
        """Return the line at `place`, counted from 0, without its end."""
        return self.data[self.starts[place] : self.starts[place + 1]].rstrip(b"\r\n")

    def name(self, place: int) -> str:
        """Say where the line at `place` stands."""
        return f"line {self.first + place}"


@numba.njit(nogil=True, cache=True)
def _has_ink(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    filled = np.zeros(starts.size - 1, np.bool_)
    for line in range(starts.size - 1):
        at = starts[line]
        while at < starts[line + 1] and data[at] <= 32:
            at += 1
        filled[line] = at < starts[line + 1]
    return filled


def line_blocks(file: BinaryIO, size: int = BYTES_PER_BLOCK) -> Iterator[LineBlock]:
    """Yield the lines of a file in blocks of about `size` bytes; a byte order mark is dropped.

    Raises:
        DataError: a line is longer than `LONGEST_LINE`.
    """
    rest = b""
    number = 1
    start = True
    while piece := file.read(size):
        if start:
            piece = piece.removeprefix(_BOM)
            start = False
        cut = piece.rfind(b"\n") + 1
        if cut:
            data = rest + piece[:cut]
            yield LineBlock(data, number)
            number += data.count(b"\n")
            rest = piece[cut:]
        else:
            rest += piece
        if len(rest) > LONGEST_LINE:
            raise DataError(f"line {number} is longer than {LONGEST_LINE} bytes; is this text?")
    if rest:
        yield LineBlock(rest + b"\n", number)


def without_bad_text(block: LineBlock, bad: BadRows) -> LineBlock:
    """Return the block with the lines that are not UTF-8 emptied, and told to `bad`."""
    try:
        block.data.decode()
    except UnicodeDecodeError:
        lines = block.data.split(b"\n")
        for place, line in enumerate(lines):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = f"byte {error.start + 1} of the line"
                bad.add(block.name(place), f"not UTF-8 at {byte}", line)
                lines[place] = b""
        return LineBlock(b"\n".join(lines), block.first)
    return block
