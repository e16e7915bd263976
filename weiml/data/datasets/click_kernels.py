"""Compiled loops of the generated clicks: a column of many rows at a time.

Every number is drawn from a hash of (seed, row, column), never from a stream, so that any rows can
be made in any order. Laws are chosen to need divisions and square roots only, which are the same to
the bit on every machine.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = [
    "MISSING",
    "add_cross",
    "add_slope",
    "draw_ids",
    "draw_numbers",
    "hex_text",
    "normal_weight",
    "uniforms",
]

MISSING = -1
"""The id that stands for a missing category; it has weights like any other."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIDDLE = np.uint64(0xD1B54A32D192ED03)
_LOW32 = np.uint64(0xFFFFFFFF)
_LANE = np.uint64(0xFFFF)
_TO_UNIT = 1.0 / 2**53


@numba.njit(inline="always")
def _uniform(seed: np.uint64, row: np.uint64, column: int) -> float:
    """Return a number in (0, 1) that only the three arguments decide."""
    bits = mix64(mix64(row * _GOLDEN + seed) + np.uint64(column + 1) * _MIDDLE)
    return ((bits >> np.uint64(11)) + 0.5) * _TO_UNIT


@numba.njit(inline="always")
def normal_weight(salt: np.uint64, value: np.uint64) -> float:
    """Return a weight of mean 0 and deviation 1 that only the arguments decide.

    The sum of four uniform numbers, so never beyond ±3.5.
    """
    bits = mix64(mix64(value * _MIDDLE + salt) + _GOLDEN)
    total = bits & _LANE
    for lane in range(1, 4):
        total += (bits >> np.uint64(16 * lane)) & _LANE
    return (total / 65535.0 - 2.0) * 1.7320508075688772


@numba.njit(nogil=True, cache=True)
def uniforms(seed: np.uint64, rows: np.ndarray, column: int) -> np.ndarray:
    """Return float64 ``(n,)`` in (0, 1)."""
    out = np.empty(rows.size, np.float64)
    for i in range(rows.size):
        out[i] = _uniform(seed, rows[i], column)
    return out


@numba.njit(nogil=True, cache=True)
def draw_numbers(
    seed: np.uint64,
    rows: np.ndarray,
    column: int,
    scale: float,
    lowest: int,
    missing: float,
    effect: float,
    bump: float,
    logits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw whole numbers with a heavy tail (Lomax, exponent 2) and add their effect to `logits`.

    The effect of x is ``effect · (g − ½) + bump · (4 g (1 − g) − ⅔)`` with g = x' / (x' + scale),
    x' = x − lowest; that of a missing number is ``−effect / 2``.

    Returns:
        the numbers int32 ``(n,)``, whether they are missing bool ``(n,)``, g − ½ float64 ``(n,)``.
    """
    values = np.zeros(rows.size, np.int32)
    absent = np.zeros(rows.size, np.bool_)
    shares = np.full(rows.size, -0.5)
    for i in range(rows.size):
        if _uniform(seed, rows[i], column) < missing:
            absent[i] = True
            logits[i] -= 0.5 * effect
            continue
        u = _uniform(seed, rows[i], column + 1)
        drawn = min(np.floor(scale * (1.0 / np.sqrt(u) - 1.0)), 2.0**31 - 100)
        values[i] = np.int32(drawn) + lowest
        share = drawn / (drawn + scale)
        shares[i] = share - 0.5
        logits[i] += effect * shares[i] + bump * (4.0 * share * (1.0 - share) - 2.0 / 3.0)
    return values, absent, shares


@numba.njit(nogil=True, cache=True)
def draw_ids(
    seed: np.uint64,
    rows: np.ndarray,
    moves: np.ndarray,
    column: int,
    vocabulary: int,
    squarings: int,
    shift: float,
    missing: float,
    salt: np.uint64,
    deviation: float,
    times: np.ndarray,
    drift: float,
    logits: np.ndarray,
) -> np.ndarray:
    """Draw ids by a Zipf-Mandelbrot law and add their weights to `logits`; int64 ``(n,)``.

    The law is ``P(rank = k) ~ (k + shift)^-(1 + 2^-squarings)``; the id is the rank moved on by
    `moves` int64 ``(n,)``, in a circle. Its weight is a normal number of `deviation`, and another
    of deviation `drift` times `times` float64 ``(n,)``.
    """
    ids = np.empty(rows.size, np.int64)
    most = 1.0 - _tail(1.0 + vocabulary / shift, squarings)
    for i in range(rows.size):
        if missing > 0.0 and _uniform(seed, rows[i], column) < missing:
            ids[i] = MISSING
        else:
            x = 1.0 / (1.0 - most * _uniform(seed, rows[i], column + 1))
            for _ in range(squarings):
                x *= x
            ids[i] = (min(np.int64(shift * (x - 1.0)), vocabulary - 1) + moves[i]) % vocabulary
        logits[i] += deviation * normal_weight(salt, np.uint64(ids[i]))
    if drift != 0.0:
        for i in range(rows.size):
            logits[i] += drift * times[i] * normal_weight(salt + _GOLDEN, np.uint64(ids[i]))
    return ids


@numba.njit(inline="always")
def _tail(x: float, squarings: int) -> float:
    for _ in range(squarings):
        x = np.sqrt(x)
    return 1.0 / x


@numba.njit(nogil=True, cache=True)
def add_cross(
    salt: np.uint64, left: np.ndarray, right: np.ndarray, deviation: float, logits: np.ndarray
) -> None:
    """Add a weight for each pair of ids to `logits`."""
    for i in range(left.size):
        pair = mix64(np.uint64(left[i]) * _GOLDEN + np.uint64(1)) + np.uint64(right[i])
        logits[i] += deviation * normal_weight(salt, pair)


@numba.njit(nogil=True, cache=True)
def add_slope(
    salt: np.uint64, ids: np.ndarray, shares: np.ndarray, deviation: float, logits: np.ndarray
) -> None:
    """Add a slope in a number's share for each id to `logits`."""
    for i in range(ids.size):
        logits[i] += deviation * normal_weight(salt, np.uint64(ids[i])) * shares[i]


@numba.njit(nogil=True, cache=True)
def hex_text(ids: np.ndarray, salt: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """Return ids as eight hexadecimal digits, different ids as different ones; missing as nothing.

    Returns:
        the bytes uint8 ``(8 · present,)`` and offsets int32 ``(n + 1,)``.
    """
    data = np.empty(8 * ids.size, np.uint8)
    offsets = np.empty(ids.size + 1, np.int32)
    at = 0
    for i in range(ids.size):
        offsets[i] = at
        if ids[i] == MISSING:
            continue
        word = _mix32((np.uint64(ids[i]) ^ salt) & _LOW32)
        for digit in range(8):
            nibble = np.uint8((word >> np.uint64(28 - 4 * digit)) & np.uint64(15))
            data[at + digit] = nibble + (np.uint8(48) if nibble < 10 else np.uint8(87))
        at += 8
    offsets[ids.size] = at
    return data[:at], offsets


@numba.njit(inline="always")
def _mix32(x: np.uint64) -> np.uint64:
    """Return MurmurHash3's 32-bit finaliser: a bijection of 32 bits."""
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(0x85EBCA6B)) & _LOW32
    x ^= x >> np.uint64(13)
    x = (x * np.uint64(0xC2B2AE35)) & _LOW32
    return x ^ (x >> np.uint64(16))
