"""Rows whose weights lie in bfloat16, two to a word, the first in the low half; compiled loops.

They are expanded to float32 for an optimizer and rounded back stochastically: to the lower or the
upper neighbour, with chances that keep the expectation, so that updates smaller than half a step
are not lost. The chance is a hash of (salt, key, column), so the same pushes give the same bits.

Gupta, Agrawal, Gopalakrishnan and Narayanan, "Deep learning with limited numerical precision",
ICML 2015.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.optimizers.rows import prefetch_row
from weiml.ps.rows.memory import load_u32, store_u32

__all__ = ["expand", "pack", "stretches"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_INFINITE = np.uint32(0x7F800000)  # the exponent of infinities and NaN
_HIGH = np.uint32(0xFFFF0000)
_MANTISSA = np.uint32(0x007FFFFF)
_QUIET = np.uint32(0x00400000)
_LOW = np.uint64(0xFFFF)


@numba.njit(cache=True, nogil=True)
def expand(addresses: np.ndarray, dim: int, out: np.ndarray) -> None:
    """Write the float32 state, as bits uint32 (n, width), of rows with bfloat16 weights."""
    packed = (dim + 1) // 2
    rest = out.shape[1] - dim
    for i in range(addresses.size):
        prefetch_row(addresses, i, packed + rest)
        for c in range(dim):
            word = load_u32(addresses[i] + 4 * (c // 2))
            out[i, c] = np.uint32(word & _HIGH if c % 2 else word << np.uint32(16))
        for c in range(rest):
            out[i, dim + c] = load_u32(addresses[i] + 4 * (packed + c))


@numba.njit(inline="always")
def _rounded(bits: np.uint32, chance: np.uint64) -> np.uint32:
    """Return the bits of a float32 rounded to bfloat16; `chance` is the lowest 16 of its bits."""
    if bits & _INFINITE == _INFINITE:
        quiet = _QUIET if bits & _MANTISSA else np.uint32(0)
        return np.uint32((bits | quiet) >> np.uint32(16))
    return np.uint32((bits + np.uint32(chance & _LOW)) >> np.uint32(16))


@numba.njit(cache=True, nogil=True)
def pack(
    addresses: np.ndarray, keys: np.ndarray, dim: int, state: np.ndarray, salt: np.uint64
) -> None:
    """Write float32 state, as bits uint32 (n, width), to rows with bfloat16 weights."""
    packed = (dim + 1) // 2
    rest = state.shape[1] - dim
    for i in range(addresses.size):
        row = mix64(keys[i] ^ salt)
        chances = row
        word = np.uint32(0)
        for c in range(dim):
            if c % 4 == 0:  # 64 bits of hash are the chances of four columns
                chances = mix64(row + np.uint64(c) * _GOLDEN)
            half = _rounded(state[i, c], chances)
            chances >>= np.uint64(16)
            word = np.uint32(word | half << np.uint32(16)) if c % 2 else half
            store_u32(addresses[i] + 4 * (c // 2), word)
        for c in range(rest):
            store_u32(addresses[i] + 4 * (packed + c), state[i, dim + c])


@numba.njit(cache=True, nogil=True)
def stretches(addresses: np.ndarray) -> np.ndarray:
    """Return where to stop so that no address repeats within a stretch: int64 (m,), the last n."""
    slots = 4
    while slots < 2 * addresses.size:
        slots *= 2
    mask = np.uint64(slots - 1)
    seen = np.zeros(slots, np.int64)  # address 0 is no row
    when = np.zeros(slots, np.int64)
    stops = np.empty(addresses.size + 1, np.int64)
    count = 0
    for i in range(addresses.size):
        slot = mix64(np.uint64(addresses[i])) & mask
        while seen[slot] != 0 and seen[slot] != addresses[i]:
            slot = (slot + np.uint64(1)) & mask
        start = stops[count - 1] if count else 0
        if seen[slot] != 0 and when[slot] >= start:
            stops[count] = i
            count += 1
        seen[slot] = addresses[i]
        when[slot] = i
    stops[count] = addresses.size
    return stops[: count + 1]
