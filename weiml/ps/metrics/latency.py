"""How long requests took: a histogram that costs a fraction of a microsecond to add to.

Each bin ends a fourth root of two, 19 %, above the one before, so a percentile is off by less than
that. Written out, a histogram is a list of [upper bound in seconds, count] without empty bins:
plain data of which sums, differences and percentiles can be taken anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Bins", "LatencyHistogram", "added", "cumulative", "percentile", "since"]

Bins: TypeAlias = Sequence[Sequence[float]]
"""[upper bound in seconds, count] of the bins that are not empty, ascending."""

_STEPS = 4  # bins an octave
_FIRST_S = 1e-6  # the upper bound of the first bin
_BINS = 30 * _STEPS  # up to eighteen minutes
# Few digits, so that every machine writes the same.
_BOUNDS = [float(f"{_FIRST_S * 2 ** (number / _STEPS):.6g}") for number in range(_BINS + 1)]


class LatencyHistogram:
    """Counts of durations in seconds. Not for threads."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._counts = [0] * (_BINS + 1)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.total_s += seconds
        if seconds <= _FIRST_S:
            self._counts[0] += 1
            return
        number = math.ceil(_STEPS * math.log2(seconds / _FIRST_S))
        self._counts[number if number < _BINS else _BINS] += 1

    def bins(self) -> list[list[float]]:
        """Return what was counted since the start; the last bin takes all that took longer."""
        return [[_BOUNDS[number], count] for number, count in enumerate(self._counts) if count]


def added(histograms: Sequence[Bins]) -> list[list[float]]:
    """Return the sum of several."""
    sums: dict[float, float] = {}
    for bins in histograms:
        for bound, count in bins:
            sums[bound] = sums.get(bound, 0) + count
    return [[bound, sums[bound]] for bound in sorted(sums)]


def since(before: Bins, now: Bins) -> list[list[float]]:
    """Return what came between two looks; all of it when the counts began anew meanwhile."""
    old = {bin_[0]: bin_[1] for bin_ in before}
    news = [[bound, count - old.get(bound, 0)] for bound, count in now]
    if any(count < 0 for _, count in news) or not set(old) <= {bound for bound, _ in now}:
        news = [[bound, count] for bound, count in now]
    return [[bound, count] for bound, count in news if count]


def percentile(bins: Bins, share: float) -> float | None:
    """Return the duration that `share` (0 … 1) of all did not exceed; None if there were none.

    Within a bin durations are taken to be spread evenly.
    """
    need = share * sum(count for _, count in bins)
    passed = 0.0
    for bound, count in bins:
        passed += count
        if passed >= need:
            below = bound * 2.0 ** (-1 / _STEPS)
            return bound - (bound - below) * (passed - need) / count
    return None


def cumulative(bins: Bins, bounds: Sequence[float]) -> list[float]:
    """Return how many durations did not exceed each of ascending `bounds`, and last how many all.

    Exact where `bounds` are whole powers of two of a microsecond, with which bins end.
    """
    out, passed, at = [], 0.0, 0
    for limit in bounds:
        while at < len(bins) and bins[at][0] <= limit * 1.00001:
            passed += bins[at][1]
            at += 1
        out.append(passed)
    return [*out, sum(count for _, count in bins)]
