"""Accepted steps satisfy the conditions; where none does, the answer is None."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.train.solvers.config import SearchConfig
from weiml.train.solvers.line_search import Point, backtrack, cubic_minimum, strong_wolfe

CONFIG = SearchConfig()


def wavy(step: float, scale: float, wave: float) -> tuple[float, float]:
    """A bowl with waves on it: its value and slope."""
    a = step / scale
    value = (a - 1) ** 2 + wave * math.sin(5 * a)
    return value, (2 * (a - 1) + 5 * wave * math.cos(5 * a)) / scale


@given(
    scale=st.floats(1e-4, 1e4),
    wave=st.floats(-0.3, 0.3),
    first=st.floats(1e-4, 1e3),
    curvature=st.floats(0.01, 0.99),
)
def test_strong_wolfe_holds_at_what_is_accepted(
    scale: float, wave: float, first: float, curvature: float
) -> None:
    config = SearchConfig(decrease=1e-4, curvature=curvature, max_evaluations=100)
    value, slope = wavy(0.0, scale, wave)
    start = Point(0.0, value, slope)
    asked: list[float] = []

    def along(step: float) -> Point:
        asked.append(step)
        return Point(step, *wavy(step, scale, wave))

    if slope >= 0:
        return
    found = strong_wolfe(along, start, first, config)
    assert found is not None
    assert found.step == asked[-1]
    assert found.value <= value + 1e-4 * found.step * slope
    assert abs(found.slope) <= curvature * abs(slope)


def test_values_that_are_not_finite_count_as_too_high() -> None:
    def along(step: float) -> Point:
        if step > 0.5:
            return Point(step, math.nan, math.nan)
        return Point(step, -step + step**2, -1 + 2 * step)

    found = strong_wolfe(along, Point(0.0, 0.0, -1.0), 64.0, CONFIG)
    assert found is not None
    assert 0 < found.step <= 0.5


@pytest.mark.parametrize("slope_there", [-1.0, 1.0])
def test_a_slope_that_lies_finds_nothing(slope_there: float) -> None:
    start = Point(0.0, 0.0, -1.0)
    asked: list[float] = []

    def along(step: float) -> Point:
        asked.append(step)
        return Point(step, step, slope_there)

    assert strong_wolfe(along, start, 1.0, CONFIG) is None
    assert len(asked) <= CONFIG.max_evaluations
    assert backtrack(along, start, 1.0, CONFIG) is None


def test_a_function_without_a_floor_ends() -> None:
    steps = SearchConfig(max_evaluations=10)
    assert strong_wolfe(lambda a: Point(a, -a, -1.0), Point(0.0, 0.0, -1.0), 1.0, steps) is None


def test_backtracking_takes_the_first_step_that_brings_its_share() -> None:
    asked: list[float] = []

    def along(step: float) -> Point:
        asked.append(step)
        return Point(step, (step - 0.1) ** 2, -0.2 * step)

    found = backtrack(along, Point(0.0, 0.01, -0.2), 1.0, CONFIG)
    assert asked == [1.0, 0.5, 0.25, 0.125]
    assert found is not None
    assert found.step == 0.125


def test_a_cubic_is_least_where_its_derivative_is_zero() -> None:
    def cubic(step: float) -> Point:  # derivative 3 (x - 2) (x + 1)
        return Point(step, step**3 - 1.5 * step**2 - 6 * step, 3 * (step - 2) * (step + 1))

    for a, b in ((0.0, 3.0), (3.0, 0.0), (1.0, 2.5), (-0.5, 1.0)):
        assert cubic_minimum(cubic(a), cubic(b)) == pytest.approx(2.0)
    assert math.isnan(cubic_minimum(Point(1.0, 0.0, 1.0), Point(1.0, 0.0, 1.0)))
