"""Compiled loops over vectors: reductions bucket by bucket, and element by element without copies.

Reductions add up in float64, in an order that depends on the bucket's numbers alone; products of
two float32 are exact in it. What is written is computed in float64 and rounded once, except for
comparisons and differences of two float32. They know arrays and addresses, nothing of shards.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.ps.rows.memory import floats

__all__ = [
    "add_scaled",
    "axpy",
    "bucket_dots",
    "bucket_sums",
    "count_bins",
    "orthant_project",
    "pseudo_gradient",
    "soft_threshold",
]

_TILE = 2048  # numbers of each vector that stay in cache while all pairs are multiplied
_LANES = 32  # sums side by side, so that the processor can add several at once
_ZERO = np.float32(0)


@numba.njit(cache=True, nogil=True)
def _fold(lanes: np.ndarray) -> float:
    width = _LANES // 2
    while width:
        for k in range(width):
            lanes[k] += lanes[k + width]
        width //= 2
    return lanes[0]


@numba.njit(cache=True, nogil=True)
def bucket_dots(
    addresses: np.ndarray, offsets: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Return the dot products of pairs of vectors, bucket by bucket: float64 (buckets, pairs).

    Vectors are float32 arrays at `addresses` int64 (m,), all cut at `offsets` int64 (buckets + 1,);
    pair p is of vectors ``left[p]`` and ``right[p]``.
    """
    buckets = offsets.size - 1
    out = np.empty((buckets, left.size), np.float64)
    lanes = np.empty((left.size, _LANES), np.float64)
    for b in range(buckets):
        lanes[:] = 0.0
        for start in range(offsets[b], offsets[b + 1], _TILE):
            n = min(_TILE, offsets[b + 1] - start)
            whole = n // _LANES * _LANES
            for p in range(left.size):
                x = floats(addresses[left[p]] + 4 * start, n)
                y = floats(addresses[right[p]] + 4 * start, n)
                own = lanes[p]
                for i in range(0, whole, _LANES):
                    for k in range(_LANES):
                        own[k] += np.float64(x[i + k]) * np.float64(y[i + k])
                for k in range(n - whole):
                    own[k] += np.float64(x[whole + k]) * np.float64(y[whole + k])
        for p in range(left.size):
            out[b, p] = _fold(lanes[p])
    return out


@numba.njit(cache=True, nogil=True)
def bucket_sums(x: np.ndarray, offsets: np.ndarray, absolute: bool) -> np.ndarray:
    """Return the sums of float32 `x`, or of its absolute values, by bucket: float64 (buckets,)."""
    out = np.empty(offsets.size - 1, np.float64)
    lanes = np.empty(_LANES, np.float64)
    for b in range(offsets.size - 1):
        lanes[:] = 0.0
        part = x[offsets[b] : offsets[b + 1]]
        whole = part.size // _LANES * _LANES
        if absolute:
            for i in range(0, whole, _LANES):
                for k in range(_LANES):
                    lanes[k] += np.float64(abs(part[i + k]))
            for k in range(part.size - whole):
                lanes[k] += np.float64(abs(part[whole + k]))
        else:
            for i in range(0, whole, _LANES):
                for k in range(_LANES):
                    lanes[k] += np.float64(part[i + k])
            for k in range(part.size - whole):
                lanes[k] += np.float64(part[whole + k])
        out[b] = _fold(lanes)
    return out


@numba.njit(cache=True, nogil=True)
def axpy(a: float, x: np.ndarray, y: np.ndarray) -> None:
    """Add ``a x`` to `y` in place; all float32 (n,) but `a`."""
    for i in range(x.size):
        y[i] = np.float32(np.float64(y[i]) + a * np.float64(x[i]))


@numba.njit(cache=True, nogil=True)
def add_scaled(a: float, x: np.ndarray, total: np.ndarray) -> None:
    """Add ``a x`` to `total` float64 (n,) in place; x is float32 (n,)."""
    for i in range(x.size):
        total[i] += a * np.float64(x[i])


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
def orthant_project(
    x: np.ndarray, y: np.ndarray, scales: np.ndarray | None, sign: np.float32, out: np.ndarray
) -> None:
    """Set `out` to x where it has the sign of ``sign · y``, else to 0; all float32 (n,).

    Where `scales`, if given, is 0, it is x.
    """
    for i in range(x.size):
        v, s = x[i], sign * y[i]
        # No branches in these loops: signs come at random.
        same = ((v > _ZERO) & (s > _ZERO)) | ((v < _ZERO) & (s < _ZERO))
        if scales is not None:
            same |= scales[i] == _ZERO
        out[i] = v if same else _ZERO


@numba.njit(cache=True, nogil=True)
def pseudo_gradient(
    w: np.ndarray, g: np.ndarray, scales: np.ndarray | None, l1: float, out: np.ndarray
) -> None:
    """Set `out` to the pseudo-gradient of ``f(w) + l1 Σ scales |w|``, g the gradient of f.

    Arrays are float32 (n,); without `scales` they are all 1.
    """
    for i in range(w.size):
        weight = l1
        if scales is not None:
            weight *= np.float64(scales[i])
        below, above = np.float64(g[i]) - weight, np.float64(g[i]) + weight
        slope = np.float64(g[i]) * 0.0  # 0, or NaN
        slope = above if above < 0.0 else slope
        slope = below if below > 0.0 else slope
        slope = below if w[i] < _ZERO else slope
        out[i] = np.float32(above if w[i] > _ZERO else slope)


@numba.njit(cache=True, nogil=True)
def count_bins(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many numbers lie between `edges` float64 (m,): int64 (m - 1,).

    Bins hold their left edge, the last one its right edge too. NaN lies in none.
    """
    bins = edges.size - 1
    size = 1
    while size < bins:
        size *= 2
    padded = np.full(size, np.inf)  # the left edges
    padded[:bins] = edges[:bins]
    counts = np.zeros(size + 1, np.int64)
    for i in range(x.size):
        v = np.float64(x[i])
        low = 0
        step = size // 2
        while step:
            low += step if padded[low + step] <= v else 0
            step //= 2
        low = low if (v >= edges[0]) & (v <= edges[bins]) else size
        counts[low] += 1
    return counts[:bins]
