"""Line searches over one number, the length of the step: strong Wolfe, and backtracking.

They know a function of that number, no vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from weiml.train.solvers.config import SearchConfig

__all__ = ["Along", "Point", "backtrack", "cubic_minimum", "strong_wolfe"]


@dataclass(frozen=True)
class Point:
    """The objective at one step along a direction."""

    step: float
    value: float
    slope: float
    """The derivative along the direction; where the search needs none, what is promised there."""


Along = Callable[[float], Point]
"""Evaluates the objective at a step. The last one evaluated is the one that a search accepts."""


class _Evaluations:
    """Counts what a search asks for."""

    def __init__(self, along: Along, most: int) -> None:
        self._along = along
        self.left = most

    def at(self, step: float) -> Point:
        self.left -= 1
        return self._along(step)


def strong_wolfe(along: Along, start: Point, first: float, config: SearchConfig) -> Point | None:
    """Return a step that satisfies the strong Wolfe conditions; None if none was found.

        f(a) <= f(0) + c1 a f'(0)        |f'(a)| <= c2 |f'(0)|

    Nocedal and Wright, "Numerical Optimization" (2nd edition, 2006), algorithms 3.5 and 3.6 with
    cubic interpolation. Values that are not finite count as too high.

    Args:
        along: the objective.
        start: the point at step 0; its slope is below 0.
        first: the step to try first.
        config: c1, c2 and how many evaluations it may take.
    """
    evaluations = _Evaluations(along, config.max_evaluations)
    before, step = start, first
    while evaluations.left > 0:
        point = evaluations.at(step)
        if _too_high(point, start, config) or (
            before is not start and not point.value < before.value
        ):
            return _zoom(evaluations, before, point, start, config)
        if abs(point.slope) <= -config.curvature * start.slope:
            return point
        if point.slope >= 0:
            return _zoom(evaluations, point, before, start, config)
        beyond = cubic_minimum(before, point)
        step = min(max(beyond, 2 * step), 10 * step) if math.isfinite(beyond) else 2 * step
        before = point
        if not math.isfinite(step):
            return None
    return None


def backtrack(along: Along, start: Point, first: float, config: SearchConfig) -> Point | None:
    """Return the first step that brings its share of what is promised; None if none does.

    Steps are ``first · shrinkᵏ``. A point's `slope` here is what is promised at that step, the
    inner product of gradient and change: Andrew and Gao's rule for steps that are projected.
    """
    step = first
    for _ in range(config.max_evaluations):
        point = along(step)
        if point.value <= start.value + config.decrease * point.slope and point.slope < 0:
            return point
        step *= config.shrink
    return None


def _zoom(
    evaluations: _Evaluations, low: Point, high: Point, start: Point, config: SearchConfig
) -> Point | None:
    """Algorithm 3.6: narrow an interval that holds acceptable steps, `low` its better end."""
    while evaluations.left > 0:
        width = high.step - low.step
        step = low.step + width / 2
        if math.isfinite(high.value) and math.isfinite(high.slope):
            step = _inside(cubic_minimum(low, high), low.step, high.step)
        if step in (low.step, high.step):
            return None  # nothing is left between them
        point = evaluations.at(step)
        if _too_high(point, start, config) or not point.value < low.value:
            high = point
            continue
        if abs(point.slope) <= -config.curvature * start.slope:
            return point
        if point.slope * width >= 0:
            high = low
        low = point
    return None


def cubic_minimum(a: Point, b: Point) -> float:
    """Return where the cubic through two points with their slopes is least; NaN if nowhere.

    Nocedal and Wright, equation 3.59.
    """
    width = b.step - a.step
    if width == 0:
        return math.nan
    d1 = a.slope + b.slope - 3 * (b.value - a.value) / width
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), width)
    bottom = b.slope - a.slope + 2 * d2
    return b.step - width * (b.slope + d2 - d1) / bottom if bottom else math.nan


def _inside(step: float, a: float, b: float) -> float:
    """Keep a step a tenth of the interval away from its ends; the middle if it is NaN."""
    if math.isnan(step):
        return a + (b - a) / 2
    margin = 0.1 * abs(b - a)
    return min(max(step, min(a, b) + margin), max(a, b) - margin)


def _too_high(point: Point, start: Point, config: SearchConfig) -> bool:
    bound = start.value + config.decrease * point.step * start.slope
    return not (point.value <= bound and math.isfinite(point.slope))
