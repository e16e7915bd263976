"""Sorting hashes: by their high bits, as good as random, digit by digit; then each put right."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["sort_hashes"]

_DIGIT = 11  # bits at most: more places to write to at once are slower
_SPARE = 3  # bits more than tell the hashes apart on average: hardly any share their high bits
_CROWDED = 16  # steps a hash, from which on sorting is faster than comparing neighbours
_ONE = np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _by_digit(hashes: np.ndarray, low: np.uint64, shift: int, bits: int, out: np.ndarray) -> None:
    """Write the hashes to `out` by `bits` bits of ``hash - low`` from bit `shift` on, stably."""
    right = np.uint64(shift)
    mask = np.uint64((1 << bits) - 1)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for i in range(hashes.size):
        starts[((hashes[i] - low >> right) & mask) + _ONE] += 1
    for place in range(1 << bits):
        starts[place + 1] += starts[place]
    for i in range(hashes.size):
        digit = (hashes[i] - low >> right) & mask
        out[starts[digit]] = hashes[i]
        starts[digit] += 1


@numba.njit(cache=True, nogil=True)
def _put_right(hashes: np.ndarray, most_steps: int) -> bool:
    """Sort what is almost sorted, step by step; False if that takes more than `most_steps`."""
    steps = 0
    for i in range(1, hashes.size):
        h = hashes[i]
        at = i
        while at > 0 and hashes[at - 1] > h:
            hashes[at] = hashes[at - 1]
            at -= 1
        hashes[at] = h
        steps += i - at
        if steps > most_steps:
            return False
    return True


def sort_hashes(hashes: np.ndarray) -> np.ndarray:
    """Return the hashes uint64 (n,) in ascending order; they may repeat. `hashes` is overwritten.

    Many times as fast as numpy's sort where they are as even as hashes should be within their
    range, and about as fast where a few repeat very often or an adversary chose them.
    """
    if hashes.size < 2:
        return hashes
    low, high = hashes.min(), hashes.max()
    span = int(high - low).bit_length()
    wanted = min(span, hashes.size.bit_length() + _SPARE)
    passes = -(-wanted // _DIGIT)
    other = np.empty_like(hashes)
    for turn in range(passes):
        bits = -(-wanted // passes)
        _by_digit(hashes, low, span - wanted + turn * bits, bits, other)
        hashes, other = other, hashes
    return hashes if _put_right(hashes, _CROWDED * hashes.size) else np.sort(hashes)
