"""Text in UTF-8 to tokens and character n-grams: compiled loops over Arrow's buffers."""

from __future__ import annotations

import unicodedata
from functools import cache

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import DataError

__all__ = [
    "BREAK",
    "HAN",
    "MARK",
    "WORD",
    "char_ngrams",
    "code_classes",
    "unsettled",
    "word_ngrams",
]

BREAK, WORD, HAN, MARK = 0, 1, 2, 3
"""Classes of code points: between tokens; letters and digits; Han; marks, which go with a word."""

_HAN = ((0x3005, 0x3005), (0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))
_HAN_BEYOND = (0x20000, 0x3FFFF)  # planes 2 and 3 are for ideographs alone
_CODES = 0x110000


@cache
def code_classes(han: bool) -> np.ndarray:
    """Return the class of each code point: uint8 ``(0x110000,)``; Han as letters unless `han`."""
    classes = np.zeros(_CODES, np.uint8)
    for block in (range(0x20000), range(0xE0000, 0xE0200)):
        for code in block:
            kind = unicodedata.category(chr(code))[0]
            if kind in "LN":
                classes[code] = WORD
            elif kind == "M":
                classes[code] = MARK
    for first, last in (*_HAN, _HAN_BEYOND):
        classes[first : last + 1] = HAN if han else WORD
    classes.flags.writeable = False
    return classes


@cache
def _settled_codes() -> np.ndarray:
    """Return by code point whether any text of such ones is in the form NFKC: bool."""
    settled = np.zeros(_CODES, bool)
    for code in range(0x30000):
        letter = chr(code)
        # Marks and the later parts of Hangul syllables join with what stands before them.
        joins = unicodedata.category(letter)[0] == "M" or 0x1100 <= code <= 0x11FF
        settled[code] = not joins and unicodedata.is_normalized("NFKC", letter)
    settled.flags.writeable = False
    return settled


def unsettled(text: pa.Array) -> np.ndarray:
    """Return which texts may not be in Unicode's form NFKC: bool ``(rows,)``."""
    data, offsets = _buffers(text)
    return np.asarray(_unsettled(data, offsets, _settled_codes()))


def word_ngrams(
    text: pa.Array, *, classes: np.ndarray, most: int, han_bigrams: bool
) -> pa.ListArray:
    """Return the tokens of texts: words and 2 … `most` neighbouring ones joined by a space.

    A Han character is a token, and with `han_bigrams` so are two in a row. Words on either side of
    Han characters are no neighbours. Tokens come in the order of their first characters.
    """
    return _tokens(text, classes, 1, most, han_bigrams, False)


def char_ngrams(text: pa.Array, *, classes: np.ndarray, least: int, most: int) -> pa.ListArray:
    """Return the runs of `least` … `most` characters within words (Han as letters)."""
    return _tokens(text, classes, least, most, False, True)


def _tokens(
    text: pa.Array, classes: np.ndarray, least: int, most: int, bigrams: bool, chars: bool
) -> pa.ListArray:
    data, offsets = _buffers(text)
    options = (classes, least, most, bigrams, chars)
    tokens, size = _count(data, offsets, *options)
    if tokens >= 1 << 31 or size >= 1 << 31:
        raise DataError(f"{len(text)} texts give {tokens} tokens of {size} bytes: use fewer rows")
    starts, ends, out = _write(data, offsets, tokens, size, *options)
    strings = pa.StringArray.from_buffers(int(tokens), pa.py_buffer(ends), pa.py_buffer(out))
    mask = text.is_null().to_numpy(zero_copy_only=False) if text.null_count else None
    if mask is None:
        return pa.ListArray.from_arrays(starts, strings)
    return pa.ListArray.from_arrays(pa.array(starts, mask=np.append(mask, False)), strings)


def _buffers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes, uint8, and where each text starts, int32 ``(rows + 1,)``."""
    if not len(text):
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    offsets = np.frombuffer(text.buffers()[1], np.int32)
    buffer = text.buffers()[2]
    data = np.frombuffer(buffer, np.uint8) if buffer else np.empty(0, np.uint8)
    return data, offsets[text.offset : text.offset + len(text) + 1]


@numba.njit(inline="always")
def _decode(data: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """Return a code point and how many bytes it takes; a broken one counts as a break."""
    lead = int(data[at])
    if lead < 0x80:
        return lead, 1
    length = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    if at + length > stop:
        return 0, stop - at
    code = lead & (0x7F >> length)
    for i in range(1, length):
        code = (code << 6) | (int(data[at + i]) & 0x3F)
    return (code if code < 0x110000 else 0), length


@numba.njit(nogil=True, cache=True)
def _unsettled(data: np.ndarray, offsets: np.ndarray, settled: np.ndarray) -> np.ndarray:
    out = np.zeros(offsets.size - 1, np.bool_)
    for row in range(offsets.size - 1):
        at = offsets[row]
        stop = offsets[row + 1]
        while at < stop:
            code, length = _decode(data, at, stop)
            if not settled[code]:
                out[row] = True
                break
            at += length
    return out


@numba.njit(nogil=True, cache=True)
def _units(
    data: np.ndarray, start: int, stop: int, classes: np.ndarray, chars: bool, units: np.ndarray
) -> int:
    """Cut a text into units: words and Han characters, or with `chars` single characters.

    Writes each unit's start, end, class, and whether it follows the one before without a break:
    int32 ``(·, 4)``. Returns how many.
    """
    n = 0
    at = start
    before = 0
    while at < stop:
        code, length = _decode(data, at, stop)
        kind = int(classes[code])
        if kind == MARK:
            kind = WORD if before == WORD else BREAK
        if kind != BREAK:
            if kind == WORD and before == WORD and not chars:
                units[n - 1, 1] = at + length
            else:
                units[n, 0] = at
                units[n, 1] = at + length
                units[n, 2] = kind
                units[n, 3] = before == kind
                n += 1
        before = kind
        at += length
    return n


@numba.njit(inline="always")
def _reach(units: np.ndarray, n: int, i: int, most: int, bigrams: bool, chars: bool) -> int:
    """Return of how many units at most a token that starts at unit i consists."""
    if not chars and units[i, 2] == HAN:
        return 2 if bigrams and i + 1 < n and units[i + 1, 2] == HAN and units[i + 1, 3] else 1
    reach = 1
    while reach < most and i + reach < n:
        follows = units[i + reach, 3] != 0 if chars else units[i + reach, 2] == WORD
        if not follows:
            break
        reach += 1
    return reach


@numba.njit(inline="always")
def _longest(offsets: np.ndarray) -> int:
    longest = 0
    for i in range(offsets.size - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return longest


@numba.njit(nogil=True, cache=True)
def _count(
    data: np.ndarray,
    offsets: np.ndarray,
    classes: np.ndarray,
    least: int,
    most: int,
    bigrams: bool,
    chars: bool,
) -> tuple[int, int]:
    """Return how many tokens there are, and of how many bytes all together."""
    units = np.empty((_longest(offsets), 4), np.int32)
    tokens = size = 0
    for row in range(offsets.size - 1):
        n = _units(data, offsets[row], offsets[row + 1], classes, chars, units)
        for i in range(n):
            length = 0
            for k in range(_reach(units, n, i, most, bigrams, chars)):
                spaced = k > 0 and not chars and units[i, 2] == WORD
                length += units[i + k, 1] - units[i + k, 0] + int(spaced)
                if k + 1 >= least:
                    tokens += 1
                    size += length
    return tokens, size


@numba.njit(nogil=True, cache=True)
def _write(
    data: np.ndarray,
    offsets: np.ndarray,
    tokens: int,
    size: int,
    classes: np.ndarray,
    least: int,
    most: int,
    bigrams: bool,
    chars: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where each row's tokens start, where each token ends, and the tokens' bytes."""
    units = np.empty((_longest(offsets), 4), np.int32)
    starts = np.zeros(offsets.size, np.int32)
    ends = np.zeros(tokens + 1, np.int32)
    out = np.empty(size, np.uint8)
    token = at = 0
    for row in range(offsets.size - 1):
        n = _units(data, offsets[row], offsets[row + 1], classes, chars, units)
        for i in range(n):
            reach = _reach(units, n, i, most, bigrams, chars)
            spaced = not chars and units[i, 2] == WORD
            for length in range(least, reach + 1):
                for k in range(length):
                    if spaced and k > 0:
                        out[at] = 32
                        at += 1
                    for byte in range(units[i + k, 0], units[i + k, 1]):
                        out[at] = data[byte]
                        at += 1
                token += 1
                ends[token] = at
        starts[row + 1] = token
    return starts, ends, out
