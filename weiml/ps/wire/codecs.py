"""Rows of float32 in fewer bytes and back: each row by itself, so that rows may be picked after.

A row's code depends on nothing but the row. What arrives is therefore the same however rows are
split over shards. No codec makes an infinity or NaN of a finite number: what is too large arrives
as the largest number there is. Rounding is to the nearest, ties to even; or towards zero, at twice
the error in the table, so that what is left over has the sign of the number.

=========  ==============  =========================================  =====================
codec      bytes a row     error of a number x                        largest
=========  ==============  =========================================  =====================
float32    4 dim           none                                       3.4e38
float16    2 dim           |x| / 2048, or 2⁻²⁵ where that is more     65,504
bfloat16   2 dim           |x| / 256                                  3.39e38
float8     dim             |x| / 8, or 2⁻¹⁷ where that is more        57,344
int8       dim + 2         1/252 of the row's largest number          3.39e38
=========  ==============  =========================================  =====================

Of rows of one or two numbers int8 would take as many bytes as bfloat16 or more, and be no nearer:
they travel as bfloat16.

float8 has 5 bits of exponent and 2 of fraction (E5M2 of Micikevicius et al., "FP8 formats for deep
learning", 2022), here without infinities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from weiml.ps.wire.config import Codec

__all__ = ["Encoded", "decode", "encode"]

_1, _8, _13, _16, _21 = (np.uint32(n) for n in (1, 8, 13, 16, 21))
_ABS = np.uint32(0x7FFFFFFF)
_REBIAS = np.uint32(0xC8000000)  # takes 127 - 15 from the exponent, modulo 2³²
_NORMAL = np.uint32(0x38800000)  # 2⁻¹⁴, below which float16 and float8 lose precision
_ZERO = np.float32(0)


@numba.njit(inline="always")
def float_of(bits: np.uint32) -> np.float32:
    """Return the float32 of these bits."""
    return np.uint32(bits).view(np.float32)


@numba.njit(inline="always")
def bits_of(number: np.float32) -> np.uint32:
    """Return the bits of a float32."""
    return np.float32(number).view(np.uint32)


@numba.njit(inline="always")
def _shortened(bits: np.uint32, drop: np.uint32, down: np.uint32) -> np.uint32:
    """Return `bits` without the last `drop`, to the nearest even, or just cut where `down` is 1."""
    half = (_1 << (drop - _1)) - _1
    return (bits + (_1 - down) * (half + ((bits >> drop) & _1))) >> drop


@numba.njit(inline="always")
def bfloat16_of(bits: np.uint32, down: np.uint32) -> np.uint16:
    """Return the bits of the bfloat16 for a finite float32's bits; `down` 1: towards zero."""
    short = _shortened(bits, _16, down)
    if short & np.uint32(0x7FFF) == np.uint32(0x7F80):
        short -= _1  # not to infinity
    return np.uint16(short)


@numba.njit(inline="always")
def float16_of(bits: np.uint32, down: np.uint32) -> np.uint16:
    """Return the bits of the float16 for a finite float32's bits; `down` 1: towards zero."""
    sign = (bits >> _16) & np.uint32(0x8000)
    a = bits & _ABS
    if a >= np.uint32(0x477FF000):  # 65,520 and more
        code = np.uint32(0x7BFF)
    elif a >= _NORMAL:
        code = _shortened(a + _REBIAS, _13, down)
    elif down:
        code = np.uint32(float_of(a) * np.float32(2.0**24))
    else:
        # Beside 0.5 the last place of a float32 is 2⁻²⁴, which is float16's smallest number.
        code = bits_of(float_of(a) + np.float32(0.5)) - bits_of(np.float32(0.5))
    return np.uint16(sign | code)


@numba.njit(inline="always")
def float8_of(bits: np.uint32, down: np.uint32) -> np.uint8:
    """Return the bits of the float8 for a finite float32's bits; `down` 1: towards zero."""
    sign = (bits >> np.uint32(24)) & np.uint32(0x80)
    a = bits & _ABS
    if a >= np.uint32(0x47700000):  # 61,440 and more
        code = np.uint32(0x7B)
    elif a >= _NORMAL:
        code = _shortened(a + _REBIAS, _21, down)
    elif down:
        code = np.uint32(float_of(a) * np.float32(2.0**16))
    else:
        # Beside 128 the last place of a float32 is 2⁻¹⁶, which is float8's smallest number.
        code = bits_of(float_of(a) + np.float32(128)) - bits_of(np.float32(128))
    return np.uint8(sign | code)


@numba.njit(inline="always")
def bits_of_float16(half: np.uint32) -> np.uint32:
    """Return the bits of the float32 that a finite float16 stands for."""
    sign = (half & np.uint32(0x8000)) << _16
    a = half & np.uint32(0x7FFF)
    if a < np.uint32(0x400):
        return sign | bits_of(np.float32(a) * np.float32(2.0**-24))
    return sign | ((a << _13) - _REBIAS)


@numba.njit(inline="always")
def int8_scale(largest: np.float32) -> np.uint16:
    """Return bfloat16 bits of the unit in which a row whose largest number this is fits ±127."""
    bits = bits_of(largest / np.float32(127)) + np.uint32(0xFFFF)  # upwards
    # 127 of the largest unit are just below float32's largest number.
    return min(np.uint16(bits >> _16), np.uint16(0x7C00))


@numba.njit(inline="always")
def int8_of(number: np.float32, unit: np.float32, down: bool) -> np.int8:
    """Return `number` in whole units, at most ±127."""
    if unit == _ZERO:
        return np.int8(0)
    units = number / unit
    whole = np.trunc(units) if down else np.rint(units)
    return np.int8(max(np.float32(-127), min(np.float32(127), whole)))


@dataclass(frozen=True)
class Encoded:
    """Rows on the wire: contiguous arrays, which Ray's object store carries without a copy.

    Pick rows from it instead of encoding rows that were decoded: int8 would round them again.
    """

    codec: Codec
    data: np.ndarray
    """(n, dim): float32, uint16, uint8 or int8 by codec."""
    scales: np.ndarray | None = None
    """Of int8: uint16 (n,), bfloat16 bits of what a row's numbers are multiplied by."""

    def __len__(self) -> int:
        return len(self.data)

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return int(self.data.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.data.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def take(self, rows: np.ndarray | slice) -> Encoded:
        """Return some of the rows, in the order asked for."""
        return Encoded(
            self.codec,
            np.ascontiguousarray(self.data[rows]),
            None if self.scales is None else np.ascontiguousarray(self.scales[rows]),
        )


def encode(values: np.ndarray, codec: Codec, *, toward_zero: bool = False) -> Encoded:
    """Return `values` float32 (n, dim), which must be finite, as `codec` sends them.

    `toward_zero` rounds magnitudes down instead of to the nearest.
    """
    rows = np.require(values, np.float32, ["C"])
    if codec == "int8" and rows.shape[1] <= 2:
        codec = "bfloat16"
    if codec == "float32":
        return Encoded(codec, rows)
    bits = rows.reshape(-1).view(np.uint32)
    if codec == "int8":
        data = np.empty(rows.shape, np.int8)
        scales = np.empty(len(rows), np.uint16)
        _to_int8(rows, data, scales, toward_zero)
        return Encoded(codec, data, scales)
    if codec == "float8":
        small = np.empty(rows.shape, np.uint8)
        _to_float8(bits, small.reshape(-1), np.uint32(toward_zero))
        return Encoded(codec, small)
    out = np.empty(rows.shape, np.uint16)
    to_16_bits = _to_bfloat16 if codec == "bfloat16" else _to_float16
    to_16_bits(bits, out.reshape(-1), np.uint32(toward_zero))
    return Encoded(codec, out)


def decode(encoded: Encoded) -> np.ndarray:
    """Return float32 (n, dim): a new array, or the sent one itself where that is float32."""
    data = encoded.data
    if encoded.codec == "float32":
        return data
    out = np.empty(data.shape, np.float32)
    if encoded.codec == "int8":
        _from_int8(data, encoded.scales, out)
        return out
    bits = out.reshape(-1).view(np.uint32)
    flat = data.reshape(-1)
    if encoded.codec == "bfloat16":
        np.left_shift(flat, _16, out=bits, dtype=np.uint32)
    elif encoded.codec == "float16":
        _from_float16(flat, bits)
    else:
        _from_float8(flat, bits)
    return out


@numba.njit(cache=True, nogil=True)
def _to_bfloat16(bits: np.ndarray, out: np.ndarray, down: np.uint32) -> None:
    for i in range(bits.size):
        out[i] = bfloat16_of(bits[i], down)


@numba.njit(cache=True, nogil=True)
def _to_float16(bits: np.ndarray, out: np.ndarray, down: np.uint32) -> None:
    for i in range(bits.size):
        out[i] = float16_of(bits[i], down)


@numba.njit(cache=True, nogil=True)
def _to_float8(bits: np.ndarray, out: np.ndarray, down: np.uint32) -> None:
    for i in range(bits.size):
        out[i] = float8_of(bits[i], down)


@numba.njit(cache=True, nogil=True)
def _from_float16(halves: np.ndarray, bits: np.ndarray) -> None:
    for i in range(halves.size):
        bits[i] = bits_of_float16(np.uint32(halves[i]))


@numba.njit(cache=True, nogil=True)
def _from_float8(eighths: np.ndarray, bits: np.ndarray) -> None:
    for i in range(eighths.size):
        # A float8 is a float16's upper byte.
        bits[i] = bits_of_float16(np.uint32(eighths[i]) << _8)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _to_int8(rows: np.ndarray, data: np.ndarray, scales: np.ndarray, down: bool) -> None:
    dim = rows.shape[1]
    for i in range(rows.shape[0]):
        largest = _ZERO
        for c in range(dim):
            largest = max(largest, abs(rows[i, c]))
        scale = int8_scale(largest)
        scales[i] = scale
        unit = float_of(np.uint32(scale) << _16)
        for c in range(dim):
            data[i, c] = int8_of(rows[i, c], unit, down)


@numba.njit(cache=True, nogil=True)
def _from_int8(data: np.ndarray, scales: np.ndarray, out: np.ndarray) -> None:
    for i in range(data.shape[0]):
        unit = float_of(np.uint32(scales[i]) << _16)
        for c in range(data.shape[1]):
            out[i, c] = np.float32(data[i, c]) * unit
