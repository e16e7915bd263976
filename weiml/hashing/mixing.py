"""Mixing 64-bit numbers: a bijection in which every bit counts, its inverse, and ids of pairs."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["cross_keys", "cross_prefix", "cross_with", "mix64", "unmix64"]

_M1 = np.uint64(0xFF51AFD7ED558CCD)
_M2 = np.uint64(0xC4CEB9FE1A85EC53)
# Their inverses modulo 2⁶⁴.
_M1_INVERSE = np.uint64(pow(0xFF51AFD7ED558CCD, -1, 2**64))
_M2_INVERSE = np.uint64(pow(0xC4CEB9FE1A85EC53, -1, 2**64))
_P3 = np.uint64(0x165667B19E3779F9)  # xxHash's third prime
_ONE = np.uint64(1)


@numba.njit(inline="always")
def mix64(x: np.uint64) -> np.uint64:
    """Return the 64-bit finaliser of MurmurHash3 of `x`: a bijection in which every bit counts."""
    x ^= x >> np.uint64(33)
    x *= _M1
    x ^= x >> np.uint64(33)
    x *= _M2
    x ^= x >> np.uint64(33)
    return x


@numba.njit(inline="always")
def unmix64(x: np.uint64) -> np.uint64:
    """Return the number whose `mix64` is `x`."""
    x ^= x >> np.uint64(33)
    x *= _M2_INVERSE
    x ^= x >> np.uint64(33)
    x *= _M1_INVERSE
    x ^= x >> np.uint64(33)
    return x


@numba.njit(inline="always")
def cross_prefix(a: np.uint64) -> np.uint64:
    """Return what `cross_with` takes of the first of a pair, to be used for many second ones."""
    return mix64(a) * _P3


@numba.njit(inline="always")
def cross_with(prefix: np.uint64, b: np.uint64) -> np.uint64:
    """Return the id of the pair (a, b) from a's `cross_prefix`; see `cross_keys`."""
    return max(mix64(prefix + b), _ONE)


@numba.njit(nogil=True, cache=True)
def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    keys = np.empty(a.size, np.uint64)
    for i in range(a.size):
        keys[i] = cross_with(cross_prefix(a[i]), b[i])
    return keys


def cross_keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the ids of pairs, elementwise: uint64 ``(n,)`` from two uint64 ``(n,)``; order counts.

    ``mix64(mix64(a) · P3 + b)`` with xxHash's third prime; longer crosses fold from the left.
    """
    return np.asarray(_cross(np.ascontiguousarray(a), np.ascontiguousarray(b)))
