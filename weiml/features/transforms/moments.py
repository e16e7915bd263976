"""Exact sums of numbers and of their squares, so that means and variances depend on no order.

A double is a whole multiple of 2⁻¹⁰⁷⁴ and its square one of 2⁻²¹⁴⁸, so sums of them are big
integers, kept in 32-bit digits of which each has room for 2³¹ carries (the small superaccumulator
of R. Neal, "Fast exact summation using small and large superaccumulators", 2015). Mean and
variance are rounded once, at the end: the same bits however the data was cut.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numba
import numpy as np

__all__ = ["Moments"]

_DIGITS = 140
"""Digits of 32 bits: squares reach to 2^(2·2046 + 106), and sums of 2⁶³ of them."""
_MOST = 1 << 29
"""Values after which the digits' carries are taken out."""
_MASK = np.uint64(0xFFFF_FFFF)
_MANTISSA = np.uint64((1 << 52) - 1)
_LOW27 = np.uint64((1 << 27) - 1)


class Moments:
    """Count, mean and variance of numbers, exact up to one rounding. Not thread-safe; picklable."""

    def __init__(self) -> None:
        self.count = 0
        self.missing = 0
        self._digits = np.zeros((2, _DIGITS), np.int64)
        self._pending = 0

    def add(self, values: np.ndarray) -> None:
        """Take in float64 ``(n,)``; NaN and infinite ones are counted as missing."""
        bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
        for start in range(0, bits.size, _MOST):
            part = bits[start : start + _MOST]
            self._make_room(part.size)
            counted = int(_add(part, self._digits))
            self.count += counted
            self.missing += part.size - counted

    def merge(self, other: Moments) -> None:
        """Take in what another has seen."""
        self._make_room(other._pending + 1)
        self._digits += other._digits
        self.count += other.count
        self.missing += other.missing

    @property
    def mean(self) -> float:
        """The mean; 0 if there are no values."""
        return float(self._sum(0, 1074) / self.count) if self.count else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of the values as a whole population; 0 if there are none."""
        if not self.count:
            return 0.0
        mean = self._sum(0, 1074) / self.count
        variance = self._sum(1, 2148) / self.count - mean * mean
        # The root first, in integers: the variance itself can lie beyond the doubles.
        scale = max(0, variance.denominator.bit_length() - variance.numerator.bit_length()) + 128
        scale += scale & 1
        root = math.isqrt((variance.numerator << scale) // variance.denominator)
        return float(Fraction(root, 1 << (scale // 2)))

    def _sum(self, which: int, unit: int) -> Fraction:
        total = sum(int(digit) << (32 * i) for i, digit in enumerate(self._digits[which]))
        return Fraction(total, 1 << unit)

    def _make_room(self, coming: int) -> None:
        """Take the carries out if otherwise a digit could overflow."""
        if self._pending + coming > _MOST:
            _carry(self._digits)
            self._pending = 1
        self._pending += coming


@numba.njit(inline="always")
def _put(digits: np.ndarray, value: np.uint64, place: np.int64, negative: bool) -> None:
    """Add ``±value · 2^place`` to a number of 32-bit digits; value < 2⁵⁵."""
    at = place >> 5
    shift = np.uint64(place & 31)
    low = np.int64((value << shift) & _MASK)
    rest = value >> (np.uint64(32) - shift)
    middle = np.int64(rest & _MASK)
    high = np.int64(rest >> np.uint64(32))
    if negative:
        low, middle, high = -low, -middle, -high
    digits[at] += low
    digits[at + 1] += middle
    digits[at + 2] += high


@numba.njit(nogil=True, cache=True)
def _add(bits: np.ndarray, digits: np.ndarray) -> np.int64:
    """Add numbers to ``digits[0]`` and their squares to ``digits[1]``; return how many."""
    sums = digits[0]
    squares = digits[1]
    counted = np.int64(0)
    for i in range(bits.size):
        b = bits[i]
        exponent = np.int64((b >> np.uint64(52)) & np.uint64(0x7FF))
        if exponent == 0x7FF:
            continue
        counted += 1
        mantissa = b & _MANTISSA
        if exponent != 0:
            mantissa |= np.uint64(1) << np.uint64(52)
            exponent -= 1
        _put(sums, mantissa, exponent, (b >> np.uint64(63)) != 0)
        upper = mantissa >> np.uint64(27)
        lower = mantissa & _LOW27
        _put(squares, lower * lower, 2 * exponent, False)
        _put(squares, upper * lower, 2 * exponent + 28, False)
        _put(squares, upper * upper, 2 * exponent + 54, False)
    return counted


@numba.njit(nogil=True, cache=True)
def _carry(digits: np.ndarray) -> None:
    for row in range(digits.shape[0]):
        for i in range(digits.shape[1] - 1):
            carry = digits[row, i] >> 32
            digits[row, i] -= carry << 32
            digits[row, i + 1] += carry
