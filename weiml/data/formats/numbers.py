"""Decimal numbers and spans of text out of bytes, compiled, exact to the last bit.

A number with at most 15 significant digits and a small power of ten is one exact multiplication or
division of doubles (W. D. Clinger, "How to Read Floating Point Numbers Accurately", PLDI 1990). The
others are left to Arrow's correctly rounded conversion, all at once.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["exact_numbers", "parse_integer", "parse_number", "take_spans"]

_POWERS = 10.0 ** np.arange(23)
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity|nan))$"
_NOT_DIGIT = np.uint8(10)


@numba.njit(inline="always")
def _digit(byte: np.uint8) -> np.uint8:
    """Return the digit of an ASCII byte; 10 or more for any other byte."""
    return byte - np.uint8(48)


@numba.njit(nogil=True, cache=True)
def parse_number(data: np.ndarray, start: int, stop: int) -> tuple[float, bool]:
    """Return ``(value, True)`` of ``data[start:stop]``, or ``(0, False)`` if it is not easy."""
    i = start
    negative = i < stop and data[i] == 45
    i += negative
    digits = np.int64(0)
    count = 0
    exponent = 0
    while i < stop and _digit(data[i]) < _NOT_DIGIT:
        digits = digits * 10 + np.int64(_digit(data[i]))
        count += 1
        i += 1
    if i < stop and data[i] == 46:
        i += 1
        while i < stop and _digit(data[i]) < _NOT_DIGIT:
            digits = digits * 10 + np.int64(_digit(data[i]))
            count += 1
            exponent -= 1
            i += 1
    if count == 0 or count > 15:
        return 0.0, False
    if i < stop:
        if data[i] != 101 and data[i] != 69:
            return 0.0, False
        i += 1
        down = i < stop and data[i] == 45
        i += i < stop and (data[i] == 45 or data[i] == 43)
        power: Any = 0
        if i == stop or stop - i > 4:
            return 0.0, False
        while i < stop and _digit(data[i]) < _NOT_DIGIT:
            power = power * 10 + np.int64(_digit(data[i]))
            i += 1
        exponent += -power if down else power
    if i < stop or exponent < -22 or exponent > 22:
        return 0.0, False
    value = float(digits)
    value = value / _POWERS[-exponent] if exponent < 0 else value * _POWERS[exponent]
    return -value if negative else value, True


@numba.njit(nogil=True, cache=True)
def parse_integer(data: np.ndarray, start: int, stop: int) -> np.int64:
    """Return the whole number ``data[start:stop]`` of 1 to 18 digits, without sign; -1 if none."""
    if stop == start or stop - start > 18:
        return np.int64(-1)
    value = np.int64(0)
    for i in range(start, stop):
        digit = _digit(data[i])
        if digit >= _NOT_DIGIT:
            return np.int64(-1)
        value = value * 10 + np.int64(digit)
    return value


def exact_numbers(
    data: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers at the spans, float64 ``(n,)``, and which of them are numbers, bool.

    Decimal and scientific notation, ``inf`` and ``nan`` in any case; what is no number is 0.
    """
    texts = take_spans(data, starts, stops)
    fine = pc.match_substring_regex(texts, _NUMBER)
    numbers = pc.if_else(fine, texts.cast(pa.string(), safe=False), "0").cast(pa.float64())
    return numbers.to_numpy(zero_copy_only=False), fine.to_numpy(zero_copy_only=False)


def take_spans(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> pa.Array:
    """Return the bytes ``data[starts[i]:stops[i]]`` as binary ``(n,)``."""
    lengths = stops - starts
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    taken = _take(data, starts, offsets)
    wide = offsets[-1] >= 2**31
    kind = pa.large_binary() if wide else pa.binary()
    bounds = offsets if wide else offsets.astype(np.int32)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(taken)]
    return pa.Array.from_buffers(kind, len(starts), buffers)


@numba.njit(nogil=True, cache=True)
def _take(data: np.ndarray, starts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    taken = np.empty(offsets[-1], np.uint8)
    for i in range(starts.size):
        at = offsets[i]
        start = starts[i]
        for k in range(offsets[i + 1] - at):
            taken[at + k] = data[start + k]
    return taken
