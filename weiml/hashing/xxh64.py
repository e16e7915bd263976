"""XXH64 as compiled loops: of bytes at an address, and of integers' decimal text without the text.

(Yann Collet, xxHash fast digest algorithm, specification 0.2.) It knows no features and no columns.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing.memory import load_u8, load_u32, load_u64, trailing_zeros

__all__ = ["decimal_digest", "medium_decimal_digest", "short_decimal_digest", "xxh64"]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_ZERO = np.uint64(0)
_BYTE = np.uint64(0xFF)
_U1, _U8, _U32, _U64 = np.uint64(1), np.uint64(8), np.uint64(32), np.uint64(64)
_FOUR = np.uint64(4)
_LAST_BYTE = np.uint64(1 << 56)
_ZEROS = np.uint64(0x3030303030303030)  # the text 00000000
_MINUS = np.uint64(45)
_E8 = np.uint64(10**8)
_E16 = np.uint64(10**16)


@numba.njit(inline="always")
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(inline="always")
def _round(accumulator: np.uint64, lane: np.uint64) -> np.uint64:
    return _rotate(accumulator + lane * _P2, 31) * _P1


@numba.njit(inline="always")
def _eat8(h: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(h ^ _round(_ZERO, word), 27) * _P1 + _P4


@numba.njit(inline="always")
def _eat4(h: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(h ^ (word * _P1), 23) * _P2 + _P3


@numba.njit(inline="always")
def _eat1(h: np.uint64, byte: np.uint64) -> np.uint64:
    return _rotate(h ^ (byte * _P5), 11) * _P1


@numba.njit(inline="always")
def _avalanche(h: np.uint64) -> np.uint64:
    h ^= h >> np.uint64(33)
    h *= _P2
    h ^= h >> np.uint64(29)
    h *= _P3
    return h ^ (h >> np.uint64(32))


@numba.njit(nogil=True, cache=True)
def _stripes(at: int, stop: int, seed: np.uint64) -> np.uint64:
    """Return the state after all whole stripes of 32 bytes, of which there is at least one."""
    v1 = seed + _P1 + _P2
    v2 = seed + _P2
    v3 = seed
    v4 = seed - _P1
    while at + 32 <= stop:
        v1 = _round(v1, load_u64(at))
        v2 = _round(v2, load_u64(at + 8))
        v3 = _round(v3, load_u64(at + 16))
        v4 = _round(v4, load_u64(at + 24))
        at += 32
    h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
    h = (h ^ _round(_ZERO, v1)) * _P1 + _P4
    h = (h ^ _round(_ZERO, v2)) * _P1 + _P4
    h = (h ^ _round(_ZERO, v3)) * _P1 + _P4
    return (h ^ _round(_ZERO, v4)) * _P1 + _P4


@numba.njit(inline="always")
def _less_than_8(h: np.uint64, word: np.uint64, length: np.uint64) -> np.uint64:
    """Return the digest that a state has after the last 0 … 7 bytes, the lowest of `word`."""
    four = length >= _FOUR
    h = _eat4(h, word & np.uint64(0xFFFFFFFF)) if four else h
    word = word >> _U32 if four else word
    rest = length & np.uint64(3)
    h = _eat1(h, word & _BYTE) if rest > _ZERO else h
    h = _eat1(h, (word >> _U8) & _BYTE) if rest > np.uint64(1) else h
    h = _eat1(h, (word >> np.uint64(16)) & _BYTE) if rest > np.uint64(2) else h
    return _avalanche(h)


@numba.njit(inline="always")
def _last_bytes(stop: int, length: int, rest: int) -> np.uint64:
    """Return the last `rest` (1 … 7) of `length` bytes before `stop`, with loads within them."""
    if length >= 8:
        return load_u64(stop - 8) >> np.uint64(64 - 8 * rest)
    start = stop - length
    if length >= 4:
        return load_u32(start) | (load_u32(stop - 4) << np.uint64(8 * length - 32))
    half = length >> 1
    word = load_u8(start) | (load_u8(start + half) << np.uint64(8 * half))
    return word | (load_u8(stop - 1) << np.uint64(8 * length - 8))


@numba.njit(inline="always")
def xxh64(address: int, length: int, seed: np.uint64) -> np.uint64:
    """Return XXH64 of `length` bytes at `address` (int64), for use inside compiled loops."""
    at = address
    stop = address + length
    if length >= 32:
        h = _stripes(at, stop, seed)
        at += length & ~31
    else:
        h = seed + _P5
    h += np.uint64(length)
    while at + 8 <= stop:
        h = _eat8(h, load_u64(at))
        at += 8
    rest = stop - at
    if rest == 0:
        return _avalanche(h)
    # Lengths vary: selecting costs less than branches that are guessed wrong.
    return _less_than_8(h, _last_bytes(stop, length, rest), np.uint64(rest))


@numba.njit(inline="always")
def _digits(x: np.uint64) -> np.uint64:
    """Return the eight decimal digits of x < 10⁸ as bytes 0 … 9, the first in the lowest byte.

    Halves, quarters and eighths of the word are divided at once: multiplying by a rounded-up
    reciprocal and shifting is exact for numbers this small.
    """
    thousands = (x * np.uint64(0xD1B71759)) >> np.uint64(45)
    x = thousands | ((x - thousands * np.uint64(10_000)) << _U32)
    hundreds = ((x * np.uint64(10486)) >> np.uint64(20)) & np.uint64(0x0000007F0000007F)
    x = hundreds | ((x - hundreds * np.uint64(100)) << np.uint64(16))
    tens = ((x * np.uint64(103)) >> np.uint64(10)) & np.uint64(0x000F000F000F000F)
    return tens | ((x - tens * np.uint64(10)) << _U8)


@numba.njit(inline="always")
def short_decimal_digest(x: np.uint64, seed: np.uint64) -> np.uint64:
    """Return XXH64 of the decimal text of x < 10⁷, without a branch, so that loops vectorise."""
    digits = _digits(x)
    # The last digit counts even if it is 0, hence the bit set in its byte.
    skip = trailing_zeros(digits | _LAST_BYTE) & np.uint64(56)
    length = _U8 - (skip >> np.uint64(3))
    return _less_than_8(seed + _P5 + length, (digits + _ZEROS) >> skip, length)


@numba.njit(inline="always")
def medium_decimal_digest(x: np.uint64, seed: np.uint64) -> np.uint64:
    """Like `short_decimal_digest` for x < 10¹⁶, at about twice the work."""
    # There is no division of vectors of integers; the quotient by floats is off by one at most.
    high = np.uint64(np.float64(x) * 1e-8)
    low = x - high * _E8
    high, low = (high - _U1, low + _E8) if np.int64(low) < 0 else (high, low)
    high, low = (high + _U1, low - _E8) if low >= _E8 else (high, low)
    first, second = _digits(high), _digits(low)
    skip = trailing_zeros((first if high else second) | _LAST_BYTE) & np.uint64(56)
    first, second = first + _ZEROS, second + _ZEROS
    # Up to eight digits of `high` and all of `low`; or those of `low` alone.
    word = (first >> skip) | ((second << (np.uint64(56) - skip)) << _U8)
    word = word if high else second >> skip
    next_word = second >> skip
    length = (np.uint64(16) if high else _U8) - (skip >> np.uint64(3))
    h = seed + _P5 + length
    eight = length >= _U8
    h = _eat8(h, word) if eight else h
    word = next_word if eight else word
    rest = length - _U8 if eight else length
    h = _eat8(h, word) if rest == _U8 else h
    return _less_than_8(h, word, rest & np.uint64(7))


@numba.njit(inline="always")
def _join(
    first: np.uint64, bytes_of_first: np.uint64, second: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return `first`'s 0 … 8 bytes and the eight of `second` as two words, 0 beyond."""
    if bytes_of_first == _U8:
        return first, second
    if bytes_of_first == _ZERO:
        return second, _ZERO
    shift = bytes_of_first << np.uint64(3)
    return first | (second << shift), second >> (_U64 - shift)


@numba.njit(nogil=True, cache=True)
def decimal_digest(magnitude: np.uint64, negative: bool, seed: np.uint64) -> np.uint64:
    """Return XXH64 of a number's decimal text: up to twenty digits, after a minus if `negative`."""
    top = magnitude // _E16
    middle = magnitude // _E8 - top * _E8
    low = magnitude - (magnitude // _E8) * _E8
    lead = top if top else (middle if middle else low)
    digits = _digits(lead)
    skip = trailing_zeros(digits | _LAST_BYTE) & np.uint64(56)
    words0 = (digits + _ZEROS) >> skip
    length = _U8 - (skip >> np.uint64(3))
    words1 = words2 = _ZERO
    if top:
        words0, words1 = _join(words0, length, _digits(middle) + _ZEROS)
        words1, words2 = _join(words1, length, _digits(low) + _ZEROS)
        length += np.uint64(16)
    elif middle:
        words0, words1 = _join(words0, length, _digits(low) + _ZEROS)
        length += _U8
    if negative:
        words2 = (words2 << _U8) | (words1 >> np.uint64(56))
        words1 = (words1 << _U8) | (words0 >> np.uint64(56))
        words0 = (words0 << _U8) | _MINUS
        length += np.uint64(1)
    h = seed + _P5 + length
    if length >= _U8:
        h = _eat8(h, words0)
        words0, words1, length = words1, words2, length - _U8
        if length >= _U8:
            h = _eat8(h, words0)
            words0, length = words1, length - _U8
    if length >= np.uint64(4):
        h = _eat4(h, words0 & np.uint64(0xFFFFFFFF))
        words0, length = words0 >> _U32, length - np.uint64(4)
    while length > _ZERO:
        h = _eat1(h, words0 & _BYTE)
        words0, length = words0 >> _U8, length - np.uint64(1)
    return _avalanche(h)
