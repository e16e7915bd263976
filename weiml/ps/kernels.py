"""Compiled arithmetic of rows: FTRL's two steps, and the weights that a new row starts with.

It knows numbers and keys, nothing of tables, shards or clocks. Fast-math stays off, so that every
machine and every order of shards gives the same bits.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = [
    "first_not_below",
    "ftrl_step",
    "ftrl_weight",
    "initial_weights",
]

_ZERO = np.float32(0)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOW16 = np.uint64(0xFFFF)
# The sum of four 16-bit uniforms: its mean, and its standard deviation sqrt(4 * (2**32 - 1) / 12).
_SUM_MEAN = 2.0 * 65535.0
_SUM_STD = math.sqrt((2.0**32 - 1.0) / 3.0)


@numba.njit(inline="always")
def ftrl_weight(
    z: np.float32,
    n: np.float32,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> np.float32:
    """Return the weight that the FTRL-proximal state (z, n) stands for.

    ``w = 0 if |z| <= l1 else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2)``
    (McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1), with
    both sides of the fraction times alpha, which saves a division. Usable inside numba kernels;
    pass float32 scalars, or numba computes in float64.
    """
    # Without branches, of which half would be foretold wrongly.
    shrunk = max(z - l1, _ZERO) + min(z + l1, _ZERO)
    return (_ZERO - alpha * shrunk) / (beta + math.sqrt(n) + alpha * l2)


@numba.njit(inline="always")
def ftrl_step(
    z: np.float32, n: np.float32, w: np.float32, g: np.float32, alpha: np.float32
) -> tuple[np.float32, np.float32]:
    """Return the state (z, n) after gradient `g`, where `w` is the weight before it.

    ``sigma = (sqrt(n + g²) - sqrt(n)) / alpha; z += g - sigma w; n += g²`` (same paper).
    """
    grown = n + g * g
    sigma = (math.sqrt(grown) - math.sqrt(n)) / alpha
    return z + g - sigma * w, grown


@numba.njit(cache=True, nogil=True)
def initial_weights(keys: np.ndarray, dim: int, seed: np.uint64, scale: float) -> np.ndarray:
    """Return float32 (n, dim) draws that depend on (seed, key, column) only.

    The sum of four 16-bit uniforms taken from one counter-based 64-bit hash, scaled to standard
    deviation `scale`: bell-shaped, cut off at 3.46 deviations, and made of integer arithmetic and
    one multiplication, so that the bits do not depend on a maths library as Box-Muller's would.
    """
    out = np.zeros((keys.size, dim), np.float32)
    if scale == 0:
        return out
    base = mix64(seed + _GOLDEN)
    unit = scale / _SUM_STD
    for i in range(keys.size):
        row = mix64(keys[i] ^ base)
        for c in range(dim):
            h = mix64(row + np.uint64(c) * _GOLDEN)
            total = (
                (h & _LOW16)
                + ((h >> np.uint64(16)) & _LOW16)
                + ((h >> np.uint64(32)) & _LOW16)
                + (h >> np.uint64(48))
            )
            out[i, c] = np.float32((np.float64(total) - _SUM_MEAN) * unit)
    return out


@numba.njit(cache=True, nogil=True)
def first_not_below(values: np.ndarray, limit: np.float32) -> int:
    """Return the first row of `values` (n, d) with a number not in -limit … limit, else -1.

    NaN is in no range.
    """
    for i in range(values.shape[0]):
        fit = True
        for c in range(values.shape[1]):
            fit &= abs(values[i, c]) < limit
        if not fit:
            return i
    return -1
