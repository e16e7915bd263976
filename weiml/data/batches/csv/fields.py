"""The loop over the fields of CSV: text straight to keys, numbers and pieces of text, in columns.

Separators are found 64 bytes at a time; each field is hashed or read where it stands, and nothing
is made in between. What it cannot do itself (rows that are bad, numbers written in rare ways) it
lists for its caller.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.data.batches.csv.numbers import parse_integer, parse_number
from weiml.data.batches.csv.rows import QUOTE, byte_at, closing_quote, next_separator
from weiml.data.batches.csv.utf8 import is_utf8
from weiml.data.batches.csv.words import find_bytes, load_word, separators, trailing_zeros
from weiml.hashing import text_id
from weiml.hashing.memory import store_u64
from weiml.ps.rows.memory import move_bytes

__all__ = [
    "FEW",
    "FLAG",
    "GARBLED",
    "INTEGER",
    "KEY",
    "MANY",
    "MISSING",
    "NUMBER",
    "OPEN",
    "SKIP",
    "TEXT",
    "gather_texts",
    "parse_rows",
]

SKIP, KEY, NUMBER, INTEGER, FLAG, TEXT = range(6)
"""What becomes of a field: nothing; uint64; float64; int64; float64 0 or 1; address and size."""
FEW, MANY, OPEN, MISSING, GARBLED = range(1, 6)
"""Why a row is bad: too few or too many fields, an open quote, a needed field is empty or, being a
key or text, is not UTF-8."""

_ONE, _ZERO = np.uint64(1), np.uint64(0)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NAN = np.uint64(0x7FF8000000000000)
_TRUE, _FALSE = np.uint64(0x65757274), np.uint64(0x65736C6166)  # as words, the first byte lowest
_LETTERS = np.uint64(0x2020202020)
_STORED, _SLOW = 0, -1


@numba.njit(inline="always")
def _flag(address: int, size: int) -> int:
    """Return 0 or 1 for ``0 1 true false`` in any case, else −1."""
    if size == 1 and byte_at(address) & 254 == 48:
        return byte_at(address) & 1
    if size != 4 and size != 5:
        return -1
    used = (_ONE << np.uint64(8 * size)) - _ONE
    word = (load_word(address) & used) | (_LETTERS & used)
    return 1 if word == _TRUE else 0 if word == _FALSE else -1


@numba.njit(inline="always")
def _bits(value: float) -> np.uint64:
    return np.float64(value).view(np.uint64)


@numba.njit(inline="always")
def _store(
    kind: int, required: bool, seed: np.uint64, missing: np.uint64, to: int, at: int, size: int
) -> int:
    """Put what the field at address `at` says where it belongs; return `_STORED`, or why not."""
    if kind == KEY:
        store_u64(to, text_id(at, size, seed) if size > 0 else missing)
        return _STORED
    if kind == TEXT:
        store_u64(to, np.uint64(at))
        store_u64(to + 8, np.uint64(size))
        return _STORED
    if size == 0:
        store_u64(to, _NAN)
        return MISSING if required else _STORED
    if kind == NUMBER:
        read, value = parse_number(at, size)
        store_u64(to, _bits(value))
        return _STORED if read else _SLOW
    if kind == INTEGER:
        whole, number = parse_integer(at, size)
        store_u64(to, np.uint64(number))
        return _STORED if whole else _SLOW
    flag = _flag(at, size)
    store_u64(to, _bits(np.float64(flag)))
    return _STORED if flag >= 0 else _SLOW


@numba.njit(inline="always")
def _is_garbled(kind: int, address: int, size: int) -> bool:
    return kind in (KEY, TEXT) and not is_utf8(address, size)


@numba.njit(nogil=True, cache=True)
def _unquote(
    address: int, start: int, close: int, stop: int, room: int, used: int
) -> tuple[int, int, int]:
    """Return address and size of a quoted field's text, and how much of `room` is used then.

    The field stands at `start` … `stop`, its quotes close at `close`. Where text is not in one
    piece it is put together in the memory at address `room`.
    """
    at, to = start + 1, room + used
    if close + 1 == stop and not _has_quote(address, at, close):
        return address + at, close - at, used
    size = 0
    while at < stop:
        byte = byte_at(address + at)
        if at == close or (at < close and byte == QUOTE):
            at += 1  # the closing quote, or the first of two
            if at > close:
                continue
        move_bytes(to + size, address + at, 1)
        size += 1
        at += 1
    return to, size, used + size


@numba.njit(inline="always")
def _has_quote(address: int, at: int, stop: int) -> bool:
    while at < stop:
        mask = find_bytes(address + at, QUOTE)
        if mask != _ZERO:
            return at + trailing_zeros(mask) < stop
        at += 64
    return False


@numba.njit(nogil=True, cache=True)
def parse_rows(
    address: int,
    size: int,
    delimiter: np.uint8,
    quoted: bool,
    clean: bool,
    kinds: np.ndarray,
    required: np.ndarray,
    seeds: np.ndarray,
    missing: np.ndarray,
    targets: np.ndarray,
    steps: np.ndarray,
    starts: np.ndarray,
    room: int,
    slow: np.ndarray,
    bad: np.ndarray,
) -> tuple[int, int, int]:
    """Read the rows in `size` bytes at `address`, which end with a line's end.

    Args:
        address: of text that goes on for `PADDING` bytes.
        size: of the text.
        delimiter: a byte.
        quoted: whether there are quotes at all.
        clean: whether all of it is UTF-8; if not, each key and text is looked at.
        kinds: int64 ``(F,)``, what becomes of each field.
        required: bool ``(F,)``, whether a number must be there.
        seeds: uint64 ``(F,)``, under which keys are hashed.
        missing: uint64 ``(F,)``, the keys of missing values.
        targets: int64 ``(F,)``, addresses of each field's first result.
        steps: int64 ``(F,)``, bytes from one row's result to the next; one more is written than
            there are rows.
        starts: int64 ``(rows + 1,)``, takes where each good row begins.
        room: address of `size` bytes for text put together, used where `quoted`.
        slow: int64 ``(cells, 4)``, takes row, field, address and size of what must be read anew.
        bad: int64 ``(rows + 1, 4)``, takes start, stop, field and reason of bad rows.

    Returns:
        good rows, entries of `slow`, entries of `bad`.
    """
    rows = slows = bads = used = start = word = 0
    mask = separators(address, delimiter)
    while start < size:
        row_start, slows_before = start, slows
        field = place = reason = reason_field = 0
        while True:
            at = address + start
            if quoted and byte_at(at) == QUOTE:
                close = closing_quote(address, start + 1, size)
                if close < 0:
                    reason, reason_field, place, length = OPEN, field, size, 0
                else:
                    place = next_separator(address, close + 1, size, delimiter)
                    at, length, used = _unquote(address, start, close, place, room, used)
                word = place & ~63
                mask = separators(address + word, delimiter)
                mask &= (_ALL << np.uint64(place & 63)) << _ONE
            else:
                while mask == _ZERO:
                    word += 64
                    mask = separators(address + word, delimiter)
                place = word + trailing_zeros(mask)
                mask &= mask - _ONE
                length = place - start
            if field < kinds.size and kinds[field] != SKIP:
                to = targets[field] + rows * steps[field]
                outcome = _store(
                    kinds[field], required[field], seeds[field], missing[field], to, at, length
                )
                if outcome == _SLOW:
                    slow[slows, 0], slow[slows, 1], slow[slows, 2] = rows, field, at
                    slow[slows, 3] = length
                    slows += 1
                elif outcome != _STORED and reason == 0:
                    reason, reason_field = outcome, field
                elif not clean and reason == 0 and _is_garbled(kinds[field], at, length):
                    reason, reason_field = GARBLED, field
            field += 1
            start = place + 1
            if place >= size or byte_at(address + place) != delimiter:
                break
        if field == 1 and place == row_start:
            slows = slows_before
            continue
        if reason != OPEN and field != kinds.size:
            reason, reason_field = (FEW if field < kinds.size else MANY), field
        if reason == 0:
            starts[rows] = row_start
            rows += 1
        else:
            slows = slows_before
            bad[bads, 0], bad[bads, 1], bad[bads, 2], bad[bads, 3] = (
                row_start, place, reason_field, reason,
            )  # fmt: skip
            bads += 1
    return rows, slows, bads


@numba.njit(nogil=True, cache=True)
def gather_texts(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pieces of text at `texts` int64 ``(n, 2)``, addresses and sizes, in a row.

    Returns:
        their bytes uint8, and int64 ``(n + 1,)`` where each begins.
    """
    offsets = np.zeros(texts.shape[0] + 1, np.int64)
    for i in range(texts.shape[0]):
        offsets[i + 1] = offsets[i] + texts[i, 1]
    data = np.empty(offsets[-1], np.uint8)
    for i in range(texts.shape[0]):
        move_bytes(np.int64(data.ctypes.data) + offsets[i], texts[i, 0], texts[i, 1])
    return data, offsets
