"""Compiled loops over rows: one pass each, float32, no Python per key.

They know row positions and plain arrays, nothing of keys, shards or clocks. Fast-math stays off, so
that every machine and every order of shards gives the same bits. All scalars are float32.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from weiml.hashing import mix64

__all__ = [
    "adagrad_apply",
    "add_rows",
    "ftrl_apply",
    "ftrl_step",
    "ftrl_weight",
    "ftrl_weights",
    "gather_rows",
    "initial_weights",
    "merge_rows",
    "rows_since",
    "sgd_apply",
    "stamp_rows",
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
    (McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1).
    Usable inside numba kernels; pass float32 scalars, or numba computes in float64.
    """
    if abs(z) <= l1:
        return _ZERO
    shrunk = z - l1 if z > _ZERO else z + l1
    return -shrunk / ((beta + math.sqrt(n)) / alpha + l2)


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
def ftrl_weights(
    state: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> np.ndarray:
    """Return the weights (n, dim) of FTRL rows (n, 2·dim)."""
    dim = state.shape[1] // 2
    out = np.empty((state.shape[0], dim), np.float32)
    for i in range(state.shape[0]):
        for c in range(dim):
            out[i, c] = ftrl_weight(state[i, c], state[i, dim + c], alpha, beta, l1, l2)
    return out


@numba.njit(cache=True, nogil=True)
def ftrl_apply(
    state: np.ndarray,
    positions: np.ndarray,
    grads: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    """Apply gradients (n, dim) to the FTRL rows at `positions`, in order, in place."""
    dim = grads.shape[1]
    for i in range(positions.size):
        row = positions[i]
        for c in range(dim):
            z = state[row, c]
            n = state[row, dim + c]
            w = ftrl_weight(z, n, alpha, beta, l1, l2)
            z, n = ftrl_step(z, n, w, grads[i, c], alpha)
            state[row, c] = z
            state[row, dim + c] = n


@numba.njit(cache=True, nogil=True)
def adagrad_apply(
    state: np.ndarray, positions: np.ndarray, grads: np.ndarray, lr: np.float32
) -> None:
    """Apply gradients (n, dim) to Adagrad rows (w, Σg²) at `positions`, in order, in place."""
    dim = grads.shape[1]
    for i in range(positions.size):
        row = positions[i]
        for c in range(dim):
            g = grads[i, c]
            total = state[row, dim + c] + g * g
            state[row, dim + c] = total
            state[row, c] -= lr * g / math.sqrt(total)


@numba.njit(cache=True, nogil=True)
def sgd_apply(state: np.ndarray, positions: np.ndarray, grads: np.ndarray, lr: np.float32) -> None:
    """Apply gradients (n, dim) to the rows at `positions`, in order, in place."""
    for i in range(positions.size):
        row = positions[i]
        for c in range(grads.shape[1]):
            state[row, c] -= lr * grads[i, c]


@numba.njit(cache=True, nogil=True)
def add_rows(state: np.ndarray, positions: np.ndarray, differences: np.ndarray) -> None:
    """Add `differences` (n, width) to the rows at `positions`, in order, in place."""
    for i in range(positions.size):
        row = positions[i]
        for c in range(state.shape[1]):
            state[row, c] += differences[i, c]


@numba.njit(cache=True, nogil=True)
def gather_rows(state: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the rows at `positions`; a negative position gives a row of zeros."""
    out = np.empty((positions.size, state.shape[1]), np.float32)
    for i in range(positions.size):
        row = positions[i]
        for c in range(state.shape[1]):
            out[i, c] = state[row, c] if row >= 0 else _ZERO
    return out


@numba.njit(cache=True, nogil=True)
def merge_rows(values: np.ndarray, inverse: np.ndarray, size: int) -> np.ndarray:
    """Return (size, dim) sums of `values` (n, dim) by `inverse` (n,), added in order."""
    out = np.zeros((size, values.shape[1]), np.float32)
    for i in range(inverse.size):
        row = inverse[i]
        for c in range(values.shape[1]):
            out[row, c] += values[i, c]
    return out


@numba.njit(cache=True, nogil=True)
def initial_weights(keys: np.ndarray, dim: int, seed: np.uint64, scale: float) -> np.ndarray:
    """Return float32 (n, dim) draws that depend on (seed, key, column) only.

    The sum of four 16-bit uniforms taken from one counter-based 64-bit hash, scaled to standard
    deviation `scale`: bell-shaped, cut off at 3.46 deviations, and made of integer arithmetic and
    one multiplication, so that the bits do not depend on a maths library as Box-Muller's would.
    """
    out = np.empty((keys.size, dim), np.float32)
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
def stamp_rows(touched: np.ndarray, positions: np.ndarray, sequence: int) -> None:
    """Note `sequence` as the last change of the rows at `positions`."""
    for i in range(positions.size):
        touched[positions[i]] = sequence


@numba.njit(cache=True, nogil=True)
def rows_since(touched: np.ndarray, since: int) -> np.ndarray:
    """Return the positions (ascending) of the rows whose last change came after `since`."""
    count = 0
    for i in range(touched.size):
        count += touched[i] > since
    out = np.empty(count, np.int64)
    at = 0
    for i in range(touched.size):
        if touched[i] > since:
            out[at] = i
            at += 1
    return out
