"""Ranks and quantiles of cells: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.features.transforms import Distribution


def cells(*each: tuple[float, float, float]) -> Distribution:
    low, high, weights = np.array(each, np.float64).reshape(-1, 3).T
    return Distribution(low, high, weights)


def test_values_are_spread_evenly_within_a_cell() -> None:
    seen = cells((0.0, 10.0, 11.0))
    assert seen.rank([-1.0, 0.0, 5.0, 10.0, 11.0]).tolist() == [0.0, 1.0, 6.0, 11.0, 11.0]  # type: ignore[arg-type]
    assert seen.quantiles(np.array([0.0, 0.25, 0.5, 1.0])).tolist() == [0.0, 2.5, 5.0, 10.0]
    assert (seen.min, seen.max, seen.weight, seen.rank_error) == (0.0, 10.0, 11.0, 1.0)
    assert seen.distinct(5) is None


def test_cells_of_one_value_are_exact() -> None:
    seen = cells((1.0, 1.0, 3.0), (2.0, 2.0, 1.0))
    assert seen.quantiles(np.array([0.0, 2 / 3, 5 / 6, 1.0])) == pytest.approx([1, 1, 1.5, 2])
    assert seen.cdf(np.array([0.5, 1.0, 1.5, 2.0])).tolist() == [0.0, 0.75, 0.75, 1.0]
    assert seen.rank_error == 0.0
    distinct = seen.distinct(2)
    assert distinct is not None
    assert distinct.tolist() == [1.0, 2.0]
    assert seen.distinct(1) is None


def test_nothing_is_known_of_nothing() -> None:
    seen = cells()
    assert np.isnan([seen.min, seen.max, seen.quantiles(0.5)[0], seen.rank(np.nan)[0]]).all()
    assert (seen.weight, seen.rank_error, seen.cdf(1.0)[0]) == (0.0, 0.0, 0.0)
