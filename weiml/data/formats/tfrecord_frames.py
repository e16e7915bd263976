"""The frames of TFRecord files: lengths and masked CRCs around each record.

length (uint64) · masked CRC-32C of the length · data · masked CRC-32C of the data; little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numba
import numpy as np

from weiml.data.formats.crc32c import masked_crc32c
from weiml.data.formats.stream import BadRows
from weiml.errors import DataError

__all__ = ["RecordBlock", "begins_plainly", "record_blocks"]

BYTES_PER_BLOCK = 1 << 23
_ROWS = 1 << 14
_LARGEST = 1 << 30  # so that places in a block, which holds one more, are 32 bits

_BAD_LENGTH = 1


@dataclass(frozen=True)
class RecordBlock:
    """Whole records: their bytes, and where each one's data lies."""

    data: np.ndarray  # uint8
    starts: np.ndarray  # int64
    stops: np.ndarray  # int64
    numbers: np.ndarray  # int64: counted from 1, over the file
    offset: int
    """Where `data` starts in the (decompressed) file."""

    def name(self, place: int) -> str:
        """Say which record is at `place`, and where its frame starts."""
        at = self.offset + int(self.starts[place]) - 12
        return f"record {int(self.numbers[place])} at byte {at}"

    def raw(self, place: int) -> bytes:
        """Return a record's data."""
        return self.data[self.starts[place] : self.stops[place]].tobytes()


def begins_plainly(head: bytes) -> bool:
    """Return whether a file that begins with `head` (12 bytes) begins with a frame."""
    if len(head) < 12:
        return False
    array = np.frombuffer(head, np.uint8)
    return int(masked_crc32c(array, 0, 8)) == int.from_bytes(head[8:12], "little")


def record_blocks(
    file: BinaryIO, bad: BadRows, size: int = BYTES_PER_BLOCK
) -> Iterator[RecordBlock]:
    """Yield a file's records; those whose data is damaged, or cut short by its end, are told.

    Raises:
        DataError: a length is damaged, after which no record can be found.
    """
    rest = b""
    offset = number = 0
    while True:
        piece = file.read(size)
        data = np.frombuffer(rest + piece, np.uint8)
        starts, stops, fine, at, error = _frames(data)
        for place in np.flatnonzero(~fine):
            where = f"record {number + place + 1} at byte {offset + int(starts[place]) - 12}"
            raw = data[starts[place] : stops[place]].tobytes()
            bad.add(where, "its data does not have the CRC that was written with it", raw)
        numbers = number + 1 + np.arange(len(starts))
        for first in range(0, len(starts), _ROWS):
            part = slice(first, first + _ROWS)
            keep = fine[part]
            yield RecordBlock(
                data, starts[part][keep], stops[part][keep], numbers[part][keep], offset
            )
        number += len(starts)
        where = f"record {number + 1} at byte {offset + at}"
        if error == _BAD_LENGTH:
            raise DataError(
                f"{where}: its length does not have the CRC that was written with it, so neither "
                "it nor what follows can be read; is this a TFRecord file?"
            )
        rest = data[at:].tobytes()
        offset += at
        if not piece:
            if rest:
                bad.add(where, f"the file ends within it, after {len(rest)} bytes", rest)
            return


@numba.njit(inline="always")
def _word(data: np.ndarray, at: int, width: int) -> np.uint64:
    value = np.uint64(0)
    for k in range(width):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value


@numba.njit(nogil=True, cache=True)
def _frames(
    data: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Return the spans of whole records, which are undamaged, where the rest starts, an error."""
    room = data.size // 16
    starts = np.empty(room, np.int64)
    stops = np.empty(room, np.int64)
    fine = np.empty(room, np.bool_)
    count = 0
    at: Any = 0
    error = 0
    while at + 12 <= data.size:
        if np.uint64(masked_crc32c(data, at, at + 8)) != _word(data, at + 8, 4):
            error = _BAD_LENGTH
            break
        length = _word(data, at, 8)
        if length > np.uint64(_LARGEST):
            error = _BAD_LENGTH
            break
        stop = at + 12 + np.int64(length)
        if stop + 4 > data.size:
            break
        starts[count] = at + 12
        stops[count] = stop
        fine[count] = np.uint64(masked_crc32c(data, at + 12, stop)) == _word(data, stop, 4)
        count += 1
        at = stop + 4
    return starts[:count], stops[:count], fine[:count], at, error
