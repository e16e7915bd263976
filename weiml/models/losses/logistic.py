"""The logistic function of one number, for compiled loops."""

from __future__ import annotations

import math

import numba

__all__ = ["logistic"]


@numba.njit(cache=True, nogil=True)
def logistic(x: float) -> tuple[float, float, float]:
    """Return p = sigmoid(x), 1 − p, and −log(1 − p) = log(1 + exp(x)), without overflow.

    In float64; −log p is the last minus x.
    """
    small = math.exp(-abs(x))
    share = 1.0 / (1.0 + small)
    rest = small * share
    plus = max(x, 0.0) + math.log1p(small)
    return (share, rest, plus) if x >= 0 else (rest, share, plus)
