"""Where rows end in CSV: cutting text into blocks of whole rows, and counting rows.

RFC 4180, with what readers commonly allow besides: a row ends with LF, CR or CRLF outside of
quotes; a field is quoted when its first byte is a quote; within it two quotes stand for one; what
follows the closing quote belongs to the field as it stands. Empty rows are no rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from weiml.data.batches.csv.words import find_bytes, load_word, separators, trailing_zeros
from weiml.ps.rows.memory import address_of

__all__ = [
    "QUOTE",
    "RowEnds",
    "byte_at",
    "closing_quote",
    "count_lines",
    "find_row_ends",
    "first_row_end",
    "next_separator",
]

QUOTE = np.uint8(34)
_LF = np.uint8(10)
_CR = 13
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)


class RowEnds(NamedTuple):
    """What a piece of text that begins with a row consists of."""

    end: int
    """Bytes that belong to whole rows."""
    rows: int
    """How many whole rows there are."""
    quoted: bool
    """Whether there is a quote anywhere."""


def find_row_ends(text: np.ndarray, size: int, delimiter: int, *, last: bool) -> RowEnds:
    """Look at the first `size` bytes of `text` uint8, which goes on for `PADDING` bytes after them.

    A CR as the last byte ends no row yet unless they are the `last` of the file: an LF may follow.
    """
    if size and text[size - 1] == _CR and not last:
        size -= 1
    address = address_of(text)
    end, rows, quoted = _plain(address, size)
    if quoted:
        end, rows = _with_quotes(address, size, np.uint8(delimiter), size)
    return RowEnds(int(end), int(rows), bool(quoted))


@numba.njit(inline="always")
def byte_at(address: int) -> Any:
    """Return the byte at an address."""
    return np.int64(load_word(address) & np.uint64(255))


@numba.njit(inline="always")
def next_separator(address: int, at: int, size: int, delimiter: np.uint8) -> int:
    """Return the position from `at` on of the next delimiter or line's end, `size` if none."""
    while at < size:
        mask = separators(address + at, delimiter)
        if mask != _ZERO:
            return min(at + trailing_zeros(mask), size)
        at += 64
    return size


@numba.njit(inline="always")
def closing_quote(address: int, at: int, size: int) -> int:
    """Return where the quotes are closed that were opened before position `at`, −1 if nowhere."""
    while at < size:
        mask = find_bytes(address + at, QUOTE)
        if mask == _ZERO:
            at += 64
            continue
        at += trailing_zeros(mask)
        if at >= size:
            return -1
        if at + 1 >= size or byte_at(address + at + 1) != QUOTE:
            return at
        at += 2
    return -1


@numba.njit(nogil=True, cache=True)
def _plain(address: int, size: int) -> tuple[int, int, bool]:
    """Return the end of the last row, the rows, and whether a quote makes these meaningless."""
    end = rows = 0
    for at in range(0, size, 64):
        valid = _ALL if size - at >= 64 else (_ONE << np.uint64(size - at)) - _ONE
        if find_bytes(address + at, QUOTE) & valid != _ZERO:
            return 0, 0, True
        mask = separators(address + at, _LF) & valid
        while mask != _ZERO:
            place = at + trailing_zeros(mask)
            mask &= mask - _ONE
            rows += place > end
            end = place + 1
    return end, rows, False


@numba.njit(nogil=True, cache=True)
def first_row_end(address: int, size: int, delimiter: np.uint8) -> int:
    """Return how many of `size` bytes the first row, and empty ones before it, take; 0 if none.

    An LF after the CR that ends it may be left for the next row to begin with.
    """
    end, rows = _with_quotes(address, size, delimiter, 1)
    return end if rows else 0


@numba.njit(nogil=True, cache=True)
def _with_quotes(address: int, size: int, delimiter: np.uint8, most: int) -> tuple[int, int]:
    """Return the end and the number of the first `most` rows, stepping from field to field."""
    end = rows = start = 0
    while start < size and rows < most:
        place = start
        if byte_at(address + start) == QUOTE:
            place = closing_quote(address, start + 1, size)
            if place < 0:
                break
        place = next_separator(address, place, size, delimiter)
        if place == size:
            break
        if byte_at(address + place) != delimiter:
            rows += place > end
            end = place + 1
        start = place + 1
    return end, rows


@numba.njit(nogil=True, cache=True)
def count_lines(address: int, size: int) -> int:
    """Return how many lines end within `size` bytes, quoted or not."""
    lines = 0
    for at in range(0, size, 64):
        valid = _ALL if size - at >= 64 else (_ONE << np.uint64(size - at)) - _ONE
        mask = separators(address + at, _LF) & valid
        while mask != _ZERO:
            place = address + at + trailing_zeros(mask)
            mask &= mask - _ONE
            lines += byte_at(place) == _LF or byte_at(place + 1) != _LF
    return lines
