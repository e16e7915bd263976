"""Compiled loops over vectors: reductions bucket by bucket, and element by element without copies.

Reductions add up in float64, in an order that depends on the bucket's numbers alone; products of
two float32 are exact in it. What is written is computed in float64 and rounded once, except for
comparisons and differences of two float32. They know arrays and addresses, nothing of shards.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.ps.memory import floats

__all__ = [
    "axpy",
    "bucket_dots",
    "bucket_sums",
    "count_bins",
    "lincomb",
    "orthant_project",
    "pseudo_gradient",
    "soft_threshold",
]

_TILE = 2048  # numbers of each vector that stay in cache while all pairs are multiplied
_ZERO = np.float32(0)


@numba.njit(cache=True, nogil=True)
def _dot(x: np.ndarray, y: np.ndarray) -> float:
    # Eight sums side by side: one would wait for itself at every step.
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        a0 += np.float64(x[i]) * np.float64(y[i])
        a1 += np.float64(x[i + 1]) * np.float64(y[i + 1])
        a2 += np.float64(x[i + 2]) * np.float64(y[i + 2])
        a3 += np.float64(x[i + 3]) * np.float64(y[i + 3])
        a4 += np.float64(x[i + 4]) * np.float64(y[i + 4])
        a5 += np.float64(x[i + 5]) * np.float64(y[i + 5])
        a6 += np.float64(x[i + 6]) * np.float64(y[i + 6])
        a7 += np.float64(x[i + 7]) * np.float64(y[i + 7])
    for i in range(whole, x.size):
        a0 += np.float64(x[i]) * np.float64(y[i])
    return ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))


@numba.njit(cache=True, nogil=True)
def bucket_dots(
    addresses: np.ndarray, offsets: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Return the dot products of pairs of vectors, bucket by bucket: float64 (buckets, pairs).

    Vectors are float32 arrays at `addresses` int64 (m,), all cut at `offsets` int64 (buckets + 1,);
    pair p is of vectors ``left[p]`` and ``right[p]``.
    """
    buckets = offsets.size - 1
    out = np.zeros((buckets, left.size), np.float64)
    for b in range(buckets):
        for start in range(offsets[b], offsets[b + 1], _TILE):
            n = min(_TILE, offsets[b + 1] - start)
            for p in range(left.size):
                x = floats(addresses[left[p]] + 4 * start, n)
                y = floats(addresses[right[p]] + 4 * start, n)
                out[b, p] += _dot(x, y)
    return out


@numba.njit(cache=True, nogil=True)
def bucket_sums(x: np.ndarray, offsets: np.ndarray, absolute: bool) -> np.ndarray:
    """Return the sums of float32 `x`, or of its absolute values, by bucket: float64 (buckets,)."""
    out = np.zeros(offsets.size - 1, np.float64)
    for b in range(offsets.size - 1):
        start, stop = offsets[b], offsets[b + 1]
        a0 = a1 = a2 = a3 = 0.0
        whole = start + (stop - start) // 4 * 4
        if absolute:
            for i in range(start, whole, 4):
                a0 += abs(np.float64(x[i]))
                a1 += abs(np.float64(x[i + 1]))
                a2 += abs(np.float64(x[i + 2]))
                a3 += abs(np.float64(x[i + 3]))
            for i in range(whole, stop):
                a0 += abs(np.float64(x[i]))
        else:
            for i in range(start, whole, 4):
                a0 += np.float64(x[i])
                a1 += np.float64(x[i + 1])
                a2 += np.float64(x[i + 2])
                a3 += np.float64(x[i + 3])
            for i in range(whole, stop):
                a0 += np.float64(x[i])
        out[b] = (a0 + a2) + (a1 + a3)
    return out


@numba.njit(cache=True, nogil=True)
def axpy(a: float, x: np.ndarray, y: np.ndarray) -> None:
    """Add ``a x`` to `y` in place; all float32 (n,) but `a`."""
    for i in range(x.size):
        y[i] = np.float32(np.float64(y[i]) + a * np.float64(x[i]))


@numba.njit(cache=True, nogil=True)
def lincomb(coefficients: np.ndarray, addresses: np.ndarray, out: np.ndarray) -> None:
    """Set `out` float32 (n,) to ``Σ coefficients[j] x_j``; `out` may be one of the vectors.

    Vectors are float32 arrays of length n at `addresses` int64 (m,), coefficients float64 (m,).
    """
    total = np.empty(_TILE, np.float64)
    for start in range(0, out.size, _TILE):
        n = min(_TILE, out.size - start)
        total[:n] = 0.0
        for j in range(addresses.size):
            c = coefficients[j]
            x = floats(addresses[j] + 4 * start, n)
            for i in range(n):
                total[i] += c * np.float64(x[i])
        for i in range(n):
            out[start + i] = np.float32(total[i])


@numba.njit(cache=True, nogil=True)
def soft_threshold(x: np.ndarray, threshold: np.float32, out: np.ndarray) -> None:
    """Set `out` to ``sign(x) max(|x| - threshold, 0)``, all float32 (n,)."""
    for i in range(x.size):
        v = x[i]
        if v > threshold:
            out[i] = v - threshold
        elif v < -threshold:
            out[i] = v + threshold
        else:
            out[i] = v * _ZERO  # 0, or NaN


@numba.njit(cache=True, nogil=True)
def orthant_project(x: np.ndarray, y: np.ndarray, sign: np.float32, out: np.ndarray) -> None:
    """Set `out` to x where it has the sign of ``sign · y``, else to 0; all float32 (n,)."""
    for i in range(x.size):
        s = sign * y[i]
        same = (x[i] > _ZERO and s > _ZERO) or (x[i] < _ZERO and s < _ZERO)
        out[i] = x[i] if same else _ZERO


@numba.njit(cache=True, nogil=True)
def pseudo_gradient(w: np.ndarray, g: np.ndarray, l1: np.float32, out: np.ndarray) -> None:
    """Set `out` to the pseudo-gradient of ``f(w) + l1 |w|₁``, g the gradient of f; float32 (n,)."""
    for i in range(w.size):
        below, above = g[i] - l1, g[i] + l1
        if w[i] > _ZERO:
            out[i] = above
        elif w[i] < _ZERO or below > _ZERO:
            out[i] = below
        elif above < _ZERO:
            out[i] = above
        else:
            out[i] = g[i] * _ZERO  # 0, or NaN


@numba.njit(cache=True, nogil=True)
def count_bins(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many numbers lie between `edges` float64 (m,): int64 (m - 1,).

    Bins hold their left edge, the last one its right edge too. NaN lies in none.
    """
    bins = edges.size - 1
    out = np.zeros(bins, np.int64)
    for i in range(x.size):
        v = np.float64(x[i])
        if not (edges[0] <= v <= edges[bins]):
            continue
        low, high = 0, bins
        while high - low > 1:
            middle = (low + high) // 2
            if edges[middle] <= v:
                low = middle
            else:
                high = middle
        out[low] += 1
    return out
