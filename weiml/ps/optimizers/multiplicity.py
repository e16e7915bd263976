"""What many examples at once do: the arithmetic shared by the rules, per row and per weight.

A push merges a batch, so a key that c examples hold comes with the sum of c gradients, all taken at
the same weight. One example after the other, each gradient but the first would have been smaller,
since the ones before had moved the weight: by the loss's curvature, of which the mean squared
gradient is the usual estimate (Fisher's information of a log-loss), times the rate. As every
example's other keys move at the same time, their pull adds up; `coupling` says how many there are.
docs/optimizers.md derives it.

In the loops a sum of squares counts as no less than ``G² / c``, which it never is but for bits that
were lost on the wire: a step divided by the root of too small a one would know no bound.

These are inlined into the rules' loops. All numbers are float32.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["damping", "power", "tempered"]

_ONE = np.float32(1)
_MOST = np.float32(2**30)


@numba.njit(inline="always")
def damping(count: np.float32, coupling: np.float32) -> np.float32:
    """Return ``coupling (c - 1) / c``: 0 for one example, so that nothing changes for it."""
    return coupling * ((count - _ONE) / count)


@numba.njit(inline="always")
def tempered(
    grad: np.float32, square: np.float32, rate: np.float32, damp: np.float32
) -> np.float32:
    """Return ``G / (1 + coupling (c - 1) rate Q / c)``, what c examples' gradients come to.

    Where the rate is small it is G, c frozen steps; where it is large it moves the weight by
    1 / coupling of a Newton step. It is the implicit step, whose bits need no library of
    mathematics, of the invariant update of Karampatziakis and Langford, "Online importance weight
    aware updates", UAI 2011; that `coupling` weights may move together safely is the step size of
    Richtárik and Takáč, "Parallel coordinate descent methods for big data optimization", 2016.
    """
    return grad / (_ONE + damp * (rate * square))


@numba.njit(inline="always")
def power(base: np.float32, count: np.float32) -> np.float32:
    """Return ``base ** count`` for a whole count of at least 1, `base` itself for 1.

    By squaring: the bits of a library's power differ between machines.
    """
    left = np.int64(min(count, _MOST) + np.float32(0.5))
    out = _ONE
    factor = base
    while left > 0:
        if left & 1:
            out *= factor
        factor *= factor
        left >>= 1
    return out
