"""Decimal text to binary numbers, rounded as Python's float() rounds, in compiled loops.

Plain whole numbers of up to eight digits take a few multiplications. Others of up to 19 digits
follow Lemire, Number Parsing at a Gigabyte per Second (2021), with the proof of Mushtak and Lemire
(2022) that 128 bits of the power of five are enough. What is rarer is left to the caller.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from weiml.data.batches.csv.words import leading_zeros, load_word, multiply_high

__all__ = ["parse_integer", "parse_number"]

_LEAST_POWER, _MOST_POWER = -300, 288  # of ten; beyond, results may be subnormal or infinite
_EXACT_POWERS = np.array([10.0**i for i in range(23)])
_EXACT_MANTISSA = np.uint64(1 << 53)
_ZEROS = np.uint64(0x3030303030303030)
_HIGH_NIBBLES = np.uint64(0xF0F0F0F0F0F0F0F0)
_SIXES = np.uint64(0x0606060606060606)
_MINUS, _PLUS, _DOT = 45, 43, 46


def _powers_of_five() -> np.ndarray:
    """Return the upper 128 bits of 5^q as (high, low) uint64, for each power q."""
    table = np.empty((_MOST_POWER - _LEAST_POWER + 1, 2), np.uint64)
    for power in range(_LEAST_POWER, _MOST_POWER + 1):
        if power >= 0:
            five = 5**power
            bits = five.bit_length()
            top = five << (128 - bits) if bits <= 128 else five >> (bits - 128)
        else:
            five = 5**-power
            # Rounded up, as the proof asks for.
            top = (1 << (five.bit_length() + 127)) // five + 1
        table[power - _LEAST_POWER] = top >> 64, top & (2**64 - 1)
    return table


_FIVES = _powers_of_five()


@numba.njit(inline="always")
def _short_whole(address: int, size: int) -> Any:
    """Return the number that 1 to 8 digits say, or −1 where something else stands there."""
    word = load_word(address) << np.uint64(64 - 8 * size)
    word |= (_ZEROS >> np.uint64(8)) >> np.uint64(8 * size - 8)
    if (word & _HIGH_NIBBLES) != _ZEROS or ((word + _SIXES) & _HIGH_NIBBLES) != _ZEROS:
        return -1
    word = (word & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(2561) >> np.uint64(8)
    word = (word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
    word = (word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)
    return np.int64(word)


@numba.njit(inline="always")
def parse_number(address: int, size: int) -> tuple[bool, float]:
    """Return whether a number was read from the `size` > 0 bytes at `address`, and that number.

    Not everything that is a number is read: spaces, ``nan``, ``inf``, more than 19 digits and
    results near the ends of the range are left out.
    """
    if size <= 8:
        short = _short_whole(address, size)
        if short >= 0:
            return True, np.float64(short)
    return _decimal(address, size)


@numba.njit(nogil=True, cache=True)
def _decimal(address: int, size: int) -> tuple[bool, float]:
    data = address
    stop = address + size
    negative = _byte(data) == _MINUS
    if negative or _byte(data) == _PLUS:
        data += 1
    mantissa = np.uint64(0)
    digits = 0  # that count: from the first that is not 0
    seen = 0
    power = 0
    after = False
    while data < stop:
        byte = _byte(data)
        if byte == _DOT and not after:
            after = True
        elif 48 <= byte <= 57:
            seen += 1
            if digits > 0 or byte != 48:
                digits += 1
            mantissa = mantissa * np.uint64(10) + np.uint64(byte - 48)
            if after:
                power -= 1
        else:
            break
        data += 1
    if seen == 0 or digits > 19:
        return False, 0.0
    if data < stop:
        read, exponent = _exponent(data, stop)
        if not read:
            return False, 0.0
        power += exponent
    return _compose(mantissa, power, negative)


@numba.njit(inline="always")
def _byte(address: int) -> Any:
    return np.int64(load_word(address) & np.uint64(255))


@numba.njit(nogil=True, cache=True)
def _exponent(data: int, stop: int) -> tuple[bool, int]:
    if _byte(data) | 32 != 101 or data + 1 == stop:
        return False, 0
    data += 1
    negative = _byte(data) == _MINUS
    if negative or _byte(data) == _PLUS:
        data += 1
    if data == stop or stop - data > 5:
        return False, 0
    exponent = 0
    while data < stop:
        byte = _byte(data)
        if not 48 <= byte <= 57:
            return False, 0
        exponent = exponent * 10 + byte - 48
        data += 1
    return True, -exponent if negative else exponent


@numba.njit(nogil=True, cache=True)
def _compose(mantissa: np.uint64, power: int, negative: bool) -> tuple[bool, float]:
    """Return mantissa · 10^power, rounded to the nearest, ties to even."""
    if mantissa <= _EXACT_MANTISSA and -22 <= power <= 22:
        value = np.float64(mantissa)
        value = value * _EXACT_POWERS[power] if power >= 0 else value / _EXACT_POWERS[-power]
        return True, -value if negative else value
    if mantissa == np.uint64(0):
        return True, -0.0 if negative else 0.0
    if not _LEAST_POWER <= power <= _MOST_POWER:
        return False, 0.0
    zeros = leading_zeros(mantissa)
    w = mantissa << np.uint64(zeros)
    five = _FIVES[power - _LEAST_POWER]
    high, low = multiply_high(w, five[0]), w * five[0]
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more = multiply_high(w, five[1])
        low += more
        if more > low:
            high += np.uint64(1)
    upper = np.int64(high >> np.uint64(63))
    shift = np.uint64(upper + 9)
    bits = high >> shift
    exponent = ((217706 * power) >> 16) + 63 + upper - zeros + 1023
    if not 1 <= exponent < 2046:
        return False, 0.0
    # Exactly half-way between two numbers: to the even one.
    half_way = low <= np.uint64(1) and -4 <= power <= 23 and bits & np.uint64(3) == np.uint64(1)
    if half_way and bits << shift == high:
        bits &= ~np.uint64(1)
    bits = (bits + (bits & np.uint64(1))) >> np.uint64(1)
    if bits >= np.uint64(1 << 53):
        bits = np.uint64(1 << 52)
        exponent += 1
    bits &= ~np.uint64(1 << 52)
    bits |= np.uint64(exponent) << np.uint64(52)
    if negative:
        bits |= np.uint64(1 << 63)
    return True, _as_float(bits)


@numba.njit(inline="always")
def _as_float(bits: np.uint64) -> float:
    return np.uint64(bits).view(np.float64)


@numba.njit(inline="always")
def parse_integer(address: int, size: int) -> tuple[bool, int]:
    """Return whether a whole number of up to 18 digits was read, and that number; `size` > 0."""
    if size <= 8:
        short = _short_whole(address, size)
        if short >= 0:
            return True, short
    return _long_whole(address, size)


@numba.njit(nogil=True, cache=True)
def _long_whole(address: int, size: int) -> tuple[bool, int]:
    negative = _byte(address) == _MINUS
    signed = 1 if negative or _byte(address) == _PLUS else 0
    if not 0 < size - signed <= 18:
        return False, 0
    value = 0
    for at in range(address + signed, address + size):
        byte = _byte(at)
        if not 48 <= byte <= 57:
            return False, 0
        value = value * 10 + byte - 48
    return True, -value if negative else value
