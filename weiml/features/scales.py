"""What is fitted of a Continuous feature: mean, deviation and quantile boundaries, in parts.

Means and squared deviations merge by the pairwise update of Chan, Golub and LeVeque ("Updating
formulae and a pairwise algorithm for computing sample variances", 1979):

    δ = m_b - m_a,  m = m_a + δ n_b / n,  M = M_a + M_b + δ² n_a n_b / n

so parts of any size lose no digits where a difference of big sums would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numba
import numpy as np

from weiml.errors import DataError
from weiml.features.transforms.quantiles import QuantileSketch
from weiml.features.types import Continuous

__all__ = ["ExactThenSketch", "Quantiles", "Scale", "ScaleAccumulator", "transformed"]

EXACT_VALUES = 1 << 22
"""Up to so many numbers of a feature quantiles are exact: 32 MiB."""
_CONSTANT = 1e-14  # of the mean: a deviation up to here is the mean's own rounding


@dataclass(frozen=True)
class Scale:
    """What is fitted for a Continuous feature, after its transform."""

    mean: float
    deviation: float
    boundaries: tuple[float, ...]


class Quantiles(Protocol):
    """What sums up numbers so that their quantiles can be told, in mergeable parts."""

    def add(self, values: np.ndarray) -> None:
        """Take in float64 ``(n,)``, all finite."""

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""

    def quantiles(self, q: np.ndarray) -> np.ndarray:
        """Return the quantiles at `q` in [0, 1]: float64 of its shape."""


SKETCH: Callable[[], Quantiles] = QuantileSketch
"""Makes the sketch that takes over beyond `EXACT_VALUES`."""


class ExactThenSketch:
    """Quantiles of all numbers while they are few, of a sketch of them from then on."""

    def __init__(
        self, limit: int = EXACT_VALUES, sketch: Callable[[], Quantiles] | None = None
    ) -> None:
        self._limit = limit
        self._make = SKETCH if sketch is None else sketch
        self._parts: list[np.ndarray] = []
        self._sketch: Quantiles | None = None

    def add(self, values: np.ndarray) -> None:
        """Take in float64 ``(n,)``, all finite."""
        if self._sketch is not None:
            self._sketch.add(values)
            return
        self._parts.append(values)
        if sum(part.size for part in self._parts) > self._limit:
            self._pour(self._make())

    def merge(self, other: ExactThenSketch) -> None:
        """Take in what another has seen."""
        for part in other._parts:
            self.add(part)
        if other._sketch is not None:
            if self._sketch is None:
                self._pour(other._make())
            assert self._sketch is not None
            self._sketch.merge(other._sketch)

    def quantiles(self, q: np.ndarray) -> np.ndarray:
        """Return the quantiles at `q` in [0, 1], linear between numbers while exact."""
        if self._sketch is not None:
            return self._sketch.quantiles(q)
        return np.asarray(np.quantile(np.concatenate(self._parts), q))

    def _pour(self, sketch: Quantiles) -> None:
        for part in self._parts:
            sketch.add(part)
        self._parts, self._sketch = [], sketch


class ScaleAccumulator:
    """What is remembered of one Continuous feature's numbers. Picklable; not thread-safe."""

    def __init__(self, feature: Continuous) -> None:
        self.feature = feature
        self.count = 0
        """Numbers seen, without missing ones."""
        self._mean = 0.0
        self._squares = 0.0
        self._quantiles = ExactThenSketch() if feature.buckets else None

    def add(self, numbers: np.ndarray) -> None:
        """Take in raw numbers float64 ``(n,)``; those that are not finite are missing.

        Raises:
            DataError: a number does not fit the feature's transform.
        """
        x = transformed(self.feature, numbers)
        known = x[~np.isnan(x)]
        if known.size == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # told by `fitted`
            mean = float(known.mean())
            squares = float(np.square(known - mean).sum())
        self._combine(known.size, mean, squares)
        if self._quantiles is not None:
            self._quantiles.add(known)

    def merge(self, other: ScaleAccumulator) -> None:
        """Take in what another accumulator of the same feature has seen."""
        self._combine(other.count, other._mean, other._squares)
        if self._quantiles is not None and other._quantiles is not None:
            self._quantiles.merge(other._quantiles)

    def fitted(self) -> Scale:
        """Return the scale; mean 0 and deviation 1 where there was no number.

        Raises:
            DataError: the numbers are too large to be squared.
        """
        if self.count == 0:
            return Scale(0.0, 1.0, ())
        deviation = float(np.sqrt(self._squares / self.count))
        if not np.isfinite(deviation):
            raise DataError(
                f"column {self.feature.name!r} holds numbers too large for a deviation: look for "
                "broken ones, or use transform = 'log1p'"
            )
        boundaries: tuple[float, ...] = ()
        if self._quantiles is not None:
            q = np.arange(1, self.feature.buckets) / self.feature.buckets
            boundaries = tuple(np.unique(self._quantiles.quantiles(q)).tolist())
        if deviation <= abs(self._mean) * _CONSTANT:
            deviation = 1.0
        return Scale(self._mean, deviation, boundaries)

    def _combine(self, count: int, mean: float, squares: float) -> None:
        if count == 0:
            return
        total = self.count + count
        delta = mean - self._mean
        self._mean += delta * count / total
        self._squares += squares + delta * delta * self.count * count / total
        self.count = total


def transformed(feature: Continuous, numbers: np.ndarray) -> np.ndarray:
    """Return raw numbers after the feature's transform: float64 ``(B,)``, NaN where not finite.

    Raises:
        DataError: a number does not fit the transform.
    """
    x = np.empty(numbers.shape, np.float64)
    least = _finite(np.ascontiguousarray(numbers, np.float64), x)
    if feature.transform == "log1p":
        if least <= -1:
            raise DataError(
                f"column {feature.name!r}: transform log1p needs numbers above -1, "
                f"got {least}: use transform = 'none'"
            )
        np.log1p(x, out=x)
    return x


@numba.njit(nogil=True, cache=True)
def _finite(numbers: np.ndarray, out: np.ndarray) -> float:
    """Copy numbers, NaN for those that are not finite; return the least (infinity for none)."""
    least = np.inf
    for i in range(numbers.size):
        x = numbers[i]
        finite = x - x == 0.0
        out[i] = x if finite else np.nan
        least = min(least, x if finite else np.inf)
    return least
