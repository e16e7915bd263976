"""A distribution as cells in order: each with its least value, its greatest one and its weight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from weiml.errors import ConfigError

__all__ = ["Distribution"]


@dataclass(frozen=True, eq=False)
class Distribution:
    """Ranks and quantiles of weighted values of which only their cells are known.

    A cell of which `low` equals `high` holds one distinct value, and is exact. Within the others
    values are taken to be spread evenly.
    """

    low: np.ndarray
    """Least value of each cell: float64 ``(cells,)``, rising."""
    high: np.ndarray
    """Greatest value of each cell: float64 ``(cells,)``; below the next cell's `low`."""
    weights: np.ndarray
    """Weight of each cell: float64 ``(cells,)``, above 0; without weights, how many values."""

    @cached_property
    def ends(self) -> np.ndarray:
        """The weight up to and with each cell: float64 ``(cells,)``."""
        return np.cumsum(self.weights)

    @property
    def weight(self) -> float:
        """The weight of all values."""
        return float(self.ends[-1]) if self.low.size else 0.0

    @property
    def min(self) -> float:
        """The least value; NaN if there is none."""
        return float(self.low[0]) if self.low.size else float("nan")

    @property
    def max(self) -> float:
        """The greatest value; NaN if there is none."""
        return float(self.high[-1]) if self.low.size else float("nan")

    @property
    def rank_error(self) -> float:
        """By how much a rank can be wrong at most, as a share of the whole; 0 if all is exact."""
        wide = self.weights[self.low < self.high]
        return float(wide.max() / self.weight) if wide.size else 0.0

    def distinct(self, most: int) -> np.ndarray | None:
        """Return the distinct values if they are known and at most `most`, otherwise None."""
        known = self.low.size <= most and bool((self.low == self.high).all())
        return self.low if known else None

    def quantiles(self, q: np.ndarray | float) -> np.ndarray:
        """Return quantiles at `q` in [0, 1]: those of `numpy.quantile` where cells hold one value.

        NaN where there are no values. A weight counts as that many repetitions.

        Raises:
            ConfigError: a q lies outside of [0, 1].
        """
        at = np.atleast_1d(np.asarray(q, np.float64))
        if not ((at >= 0) & (at <= 1)).all():
            raise ConfigError(f"quantiles lie in [0, 1], got {q}")
        if not self.low.size:
            return np.full(at.shape, np.nan)
        place = at * max(self.weight - 1.0, 0.0)
        below = np.floor(place)
        left, right = self._value_at(below), self._value_at(below + 1)
        share = place - below
        between = left * (1 - share) + right * share
        return np.where((share == 0) | (left == right), left, between)

    def rank(self, x: np.ndarray | float) -> np.ndarray:
        """Return the weight of the values ≤ x: float64 ``(n,)``; NaN gives NaN."""
        at = np.atleast_1d(np.asarray(x, np.float64))
        if not self.low.size:
            return np.where(np.isnan(at), np.nan, 0.0)
        cell = np.searchsorted(self.low, at, side="right") - 1
        c = np.maximum(cell, 0)
        weights, low, high = self.weights[c], self.low[c], self.high[c]
        first = np.minimum(weights, 1.0)  # the least value of a cell counts in full
        share = np.clip((at - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        inside = self.ends[c] - weights + first + (weights - first) * share
        rank = np.where(cell < 0, 0.0, np.where(at >= high, self.ends[c], inside))
        return np.where(np.isnan(at), np.nan, rank)

    def cdf(self, x: np.ndarray | float) -> np.ndarray:
        """Return the share of the weight at values ≤ x, in [0, 1]: float64 ``(n,)``."""
        return self.rank(x) / (self.weight or 1.0)

    def _value_at(self, place: np.ndarray) -> np.ndarray:
        """Return the values at places 0, 1, … of the sorted values."""
        cell = np.minimum(np.searchsorted(self.ends, place, side="right"), self.low.size - 1)
        weights, low, high = self.weights[cell], self.low[cell], self.high[cell]
        inside = place - (self.ends[cell] - weights)
        share = np.clip(inside / np.maximum(weights - 1.0, 1.0), 0.0, 1.0)
        return np.clip(low + (high - low) * share, low, high)
