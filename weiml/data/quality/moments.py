"""Count, extremes, mean and spread of numbers, and their distribution; parts merge."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from weiml.features.transforms import QuantileSketch

__all__ = ["NumberStatistics"]


class NumberStatistics:
    """What numbers are like. Not thread-safe.

    Squares are summed about the mean, and parts merge as in T. F. Chan et al., "Updating formulae
    and a pairwise algorithm for computing sample variances" (1979).
    """

    def __init__(self) -> None:
        self.count = 0
        """Finite numbers."""
        self.infinite = 0
        self.zeros = 0
        self.min = math.inf
        self.max = -math.inf
        self.mean = math.nan
        self._squares = 0.0
        self.sketch = QuantileSketch()

    def add(self, numbers: np.ndarray) -> None:
        """Take in numbers ``(n,)``, without NaN."""
        finite = numbers[np.isfinite(numbers)]
        self.infinite += len(numbers) - len(finite)
        if not len(finite):
            return
        with np.errstate(over="ignore"):  # an infinite spread is None in files
            mean = float(finite.mean())
            if not math.isfinite(mean):
                mean = float((finite / len(finite)).sum())
            squares = float(np.square(finite - mean).sum())
        self._combine(len(finite), mean, squares)
        self.zeros += int(np.count_nonzero(finite == 0))
        self.min = min(self.min, float(finite.min()))
        self.max = max(self.max, float(finite.max()))
        self.sketch.add(finite)

    def merge(self, other: NumberStatistics) -> None:
        """Take in what another one has seen."""
        if other.count:
            self._combine(other.count, other.mean, other._squares)
        self.infinite += other.infinite
        self.zeros += other.zeros
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)
        self.sketch.merge(other.sketch)

    def _combine(self, count: int, mean: float, squares: float) -> None:
        total = self.count + count
        if self.count:
            difference = mean - self.mean
            self._squares += squares + difference * difference * self.count * count / total
            if math.isfinite(difference):
                self.mean += difference * count / total
            else:
                self.mean = self.mean * (self.count / total) + mean * (count / total)
        else:
            self.mean, self._squares = mean, squares
        self.count = total

    @property
    def std(self) -> float:
        """The standard deviation of all the numbers (divided by n); NaN if there are none.

        Infinite where squares are beyond float64: from differences of about 10¹⁵⁴ on.
        """
        return math.sqrt(self._squares / self.count) if self.count else math.nan

    def to_mapping(self) -> dict[str, Any]:
        """Return the state and, for people, std and some quantiles."""
        levels = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
        found: Any = self.sketch.quantiles(np.array(levels)) if self.count else []
        return {
            "count": self.count,
            "infinite": self.infinite,
            "zeros": self.zeros,
            "min": self.min if self.count else None,
            "max": self.max if self.count else None,
            "mean": self.mean if self.count else None,
            "std": _finite(self.std),
            "squares": _finite(self._squares),
            "quantiles": {f"{q:g}": _finite(float(x)) for q, x in zip(levels, found, strict=False)},
            "sketch": base64.b64encode(self.sketch.to_bytes()).decode(),
        }

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> NumberStatistics:
        """Return the one whose `to_mapping` is given."""
        made = cls()
        made.count = int(mapping["count"])
        made.infinite = int(mapping["infinite"])
        made.zeros = int(mapping["zeros"])
        if made.count:
            made.min, made.max = float(mapping["min"]), float(mapping["max"])
            squares = mapping["squares"]
            made.mean = float(mapping["mean"])
            made._squares = math.inf if squares is None else float(squares)
        made.sketch = QuantileSketch.from_bytes(base64.b64decode(mapping["sketch"]))
        return made


def _finite(number: float) -> float | None:
    """Return a number as JSON can hold it."""
    return number if math.isfinite(number) else None
