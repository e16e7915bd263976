"""Isotonic regression: the monotone step function nearest to weighted values."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["pool_adjacent_violators"]


@numba.njit(cache=True, nogil=True)
def pool_adjacent_violators(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return float64 (n,): the non-decreasing fit of `values` with the least weighted squares.

    It is also the non-decreasing fit with the least weighted cross-entropy, where values are
    shares of positives. O(n): neighbours that fall are pooled into their mean, backwards as long
    as blocks fall.

    Ayer, Brunk, Ewing, Reid and Silverman, "An empirical distribution function for sampling with
    incomplete information", Annals of Mathematical Statistics 26, 1955.

    Args:
        values: float64 (n,), in the order in which the fit must not fall.
        weights: float64 (n,), above 0.
    """
    n = values.size
    means = np.empty(n)
    masses = np.empty(n)
    ends = np.empty(n, np.int64)
    blocks = 0
    for i in range(n):
        mean, mass = values[i], weights[i]
        while blocks and means[blocks - 1] >= mean:
            blocks -= 1
            total = masses[blocks] + mass
            mean = means[blocks] + (mean - means[blocks]) * (mass / total)
            mass = total
        means[blocks], masses[blocks], ends[blocks] = mean, mass, i + 1
        blocks += 1
    out = np.empty(n)
    start = 0
    for block in range(blocks):
        out[start : ends[block]] = means[block]
        start = ends[block]
    return out
