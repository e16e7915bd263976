from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.quality.moments import NumberStatistics

NUMBERS = st.lists(st.floats(-1e8, 1e8) | st.sampled_from([0.0, np.inf]), max_size=30)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_parts_merge_to_what_numpy_says_of_the_whole(parts: list[list[float]]) -> None:
    merged = NumberStatistics()
    for part in parts:
        one = NumberStatistics()
        one.add(np.array(part))
        merged.merge(NumberStatistics.from_mapping(json.loads(json.dumps(one.to_mapping()))))
    whole = np.array([x for part in parts for x in part])
    finite = whole[np.isfinite(whole)]
    assert merged.count == len(finite)
    assert merged.infinite == len(whole) - len(finite)
    assert merged.zeros == np.count_nonzero(finite == 0)
    if len(finite):
        assert (merged.min, merged.max) == (finite.min(), finite.max())
        np.testing.assert_allclose(merged.mean, finite.mean(), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(merged.std, finite.std(), rtol=1e-6, atol=1e-5)


def test_a_small_spread_far_from_zero_keeps_its_digits() -> None:
    values = 1e9 + np.array([0.0, 1.0, 2.0, 3.0])
    merged = NumberStatistics()
    for value in values:
        merged.add(np.array([value]))
    np.testing.assert_allclose(merged.std, values.std(), rtol=1e-12)


@pytest.mark.parametrize("numbers", [[1e200, -1e200, 3.0], [1.7e308, -1.7e308], [1.7e308] * 4])
def test_numbers_too_large_to_square_are_saved(numbers: list[float]) -> None:
    whole, parts = NumberStatistics(), NumberStatistics()
    whole.add(np.array(numbers))
    for number in numbers:
        part = NumberStatistics()
        part.add(np.array([number]))
        parts.merge(part)
    for seen in (whole, parts):
        read = NumberStatistics.from_mapping(
            json.loads(json.dumps(seen.to_mapping(), allow_nan=False))
        )
        assert read.to_mapping() == seen.to_mapping()
        assert (read.min, read.max) == (min(numbers), max(numbers))
        np.testing.assert_allclose(read.mean / 1e200, np.mean(np.array(numbers) / 1e200))
        assert seen.std == read.std
        assert seen.std == np.inf or len(set(numbers)) == 1
