"""A number with its standard error; weighted means, and functions of them, from sums that merge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from weiml.errors import DataError

__all__ = [
    "UNKNOWN",
    "Estimate",
    "RunningSum",
    "WeightedMoments",
    "mean_of_groups",
    "same_settings",
]


class Estimate(NamedTuple):
    """A metric on a sample of examples and the standard error of it; NaN where not defined."""

    value: float
    standard_error: float


UNKNOWN = Estimate(math.nan, math.nan)


class RunningSum:
    """A sum of float64 arrays that loses nothing to the number of terms (Neumaier, 1974)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._high = np.zeros(shape)
        self._low = np.zeros(shape)

    def add(self, term: np.ndarray) -> None:
        """Add one array of the shape."""
        total = self._high + term
        larger = np.abs(self._high) >= np.abs(term)
        lost = np.where(larger, (self._high - total) + term, (term - total) + self._high)
        self._high, self._low = total, self._low + lost

    def merge(self, other: RunningSum) -> None:
        """Add what another one has summed."""
        self.add(other._high)
        self._low = self._low + other._low

    @property
    def total(self) -> np.ndarray:
        """The sum so far."""
        return np.asarray(self._high + self._low)


class WeightedMoments:
    """Weighted means of k columns and the standard errors of smooth functions of them.

    With means ``μ = Σ w x / Σ w``, a function f of them has by the delta method the variance
    ``n / (n − 1) Σ w² (∇f · (x − μ))² / (Σ w)²``, n being the number of examples of weight above 0.
    For the plain mean of unweighted x this is the sample variance over n. (Cochran, "Sampling
    Techniques", 1977, chapter 6.) Not thread-safe.
    """

    def __init__(self, columns: int) -> None:
        self.count = 0
        """Of examples with a weight above 0."""
        self._sums = RunningSum((columns + 1,))
        self._squares = RunningSum((columns + 1, columns + 1))

    def add(self, columns: Sequence[np.ndarray], weights: np.ndarray) -> None:
        """Add examples: k columns float64 (n,) and their weights float64 (n,)."""
        rows = np.stack([weights, *(column * weights for column in columns)])
        self.count += int(np.count_nonzero(weights))
        self._sums.add(rows.sum(axis=1))
        self._squares.add(rows @ rows.T)

    def merge(self, other: Self) -> None:
        """Add what another one has seen."""
        self.count += other.count
        self._sums.merge(other._sums)
        self._squares.merge(other._squares)

    @property
    def weight(self) -> float:
        """The sum of weights."""
        return float(self._sums.total[0])

    @property
    def means(self) -> np.ndarray:
        """The weighted means float64 (k,); NaN without any weight."""
        sums = self._sums.total
        return sums[1:] / sums[0] if sums[0] > 0 else np.full(len(sums) - 1, math.nan)

    def mean(self, column: int = 0) -> Estimate:
        """Return one column's mean."""
        means = self.means
        return self.function(float(means[column]), np.eye(len(means))[column])

    def function(self, value: float, gradient: Sequence[float] | np.ndarray) -> Estimate:
        """Return a function of the means: `value`, and its standard error by its gradient (k,)."""
        if self.count < 2 or not math.isfinite(value):
            return Estimate(value, math.nan)
        slope = np.asarray(gradient, np.float64)
        direction = np.concatenate([[-slope @ self.means], slope])
        spread = float(direction @ self._squares.total @ direction)
        variance = max(spread, 0.0) * self.count / (self.count - 1)
        return Estimate(value, math.sqrt(variance) / self.weight)


def mean_of_groups(values: np.ndarray, weights: np.ndarray | None = None) -> WeightedMoments:
    """Return the moments of groups' values float64 (G,); those that are NaN are left out."""
    known = ~np.isnan(values)
    moments = WeightedMoments(1)
    moments.add([values[known]], np.ones(known.sum()) if weights is None else weights[known])
    return moments


def same_settings(mine: dict[str, object], other: dict[str, object]) -> None:
    """Raise DataError unless two accumulators were made alike."""
    if mine != other:
        raise DataError(f"accumulators of different settings do not merge: {mine} and {other}")
