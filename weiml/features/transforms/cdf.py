"""A number to its share of the training data: the empirical distribution function."""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.features.transforms.accumulators import Sketching
from weiml.features.transforms.buckets import bucket_numbers
from weiml.features.transforms.derived import FittedNumber, NumberTransform
from weiml.features.transforms.registry import register

__all__ = ["CDF", "FittedCDF"]


@dataclass(frozen=True, eq=False)
class FittedCDF(FittedNumber):
    """Linear interpolation between knots."""

    values: np.ndarray
    """Distinct quantiles of the training data: float64 ``(knots,)``, rising."""
    shares: np.ndarray
    """The share of the training data at each: float64 ``(knots,)``, in [0, 1]."""

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return each number's share; 0.5 for all if there were no known numbers in training."""
        if not self.values.size:
            return np.where(np.isnan(x), np.nan, 0.5)
        return np.asarray(_interpolate(x, bucket_numbers(x, self.values), self.values, self.shares))


@register("cdf")
@dataclass(frozen=True)
class CDF(NumberTransform):
    """The empirical distribution function, in [0, 1], linear between `knots` quantiles.

    A value that makes up many of the rows gets the middle of its shares, like the mean rank of
    ties. Numbers beyond those of training get the share at the end. Merges are exact; shares are
    within 0.1 % of the ranks, and 1 / knots for the interpolation.
    """

    knots: int = field(default=1000, kw_only=True)

    fitted_type = FittedCDF

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.knots < 2:
            raise ConfigError(f"CDF({self.column!r}): knots must be at least 2, got {self.knots}")

    def accumulator(self) -> Sketching:
        """Return a quantile sketch."""
        return _CDFSeen(self)


class _CDFSeen(Sketching):
    def _finish(self) -> FittedCDF:
        seen = self.distribution()
        if not seen.low.size:
            return FittedCDF(self.transform, np.empty(0), np.empty(0))
        grid = np.linspace(0.0, 1.0, self.transform.knots)  # type: ignore[attr-defined]
        values, first, repeats = np.unique(
            seen.quantiles(grid), return_index=True, return_counts=True
        )
        return FittedCDF(self.transform, *_knots(values, grid[first], grid[first + repeats - 1]))


def _knots(
    values: np.ndarray, below: np.ndarray, up_to: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return values and shares; a value with a range of shares gets a knot on either side.

    Otherwise the jump at a tie would be spread over all numbers up to the next knots.
    """
    before, after = np.nextafter(values, -np.inf), np.nextafter(values, np.inf)
    tied = up_to > below
    before_kept, after_kept = tied.copy(), tied.copy()
    before_kept[1:] &= before[1:] > after[:-1]
    after_kept[:-1] &= after[:-1] < before[1:]
    x = np.concatenate([before[before_kept], values, after[after_kept]])
    shares = np.concatenate([below[before_kept], (below + up_to) / 2, up_to[after_kept]])
    order = np.argsort(x, kind="stable")
    finite = np.isfinite(x[order])
    return x[order][finite], shares[order][finite]


@numba.njit(nogil=True, cache=True)
def _interpolate(
    x: np.ndarray, places: np.ndarray, values: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Return shares at x, of which `places` are the bucket numbers among the values."""
    out = np.empty(x.size, np.float64)
    last = values.size - 1
    for i in range(x.size):
        knot = places[i] - 2  # the last knot that is not above x
        if places[i] == 0:
            out[i] = np.nan
        elif knot < 0:
            out[i] = shares[0]
        elif knot >= last:
            out[i] = shares[last]
        else:
            share = (x[i] - values[knot]) / (values[knot + 1] - values[knot])
            out[i] = shares[knot] + share * (shares[knot + 1] - shares[knot])
    return out
