"""Pool adjacent violators against scikit-learn."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from weiml.models.calibration.pooling import pool_adjacent_violators

numbers = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))


@given(st.lists(st.tuples(numbers, st.floats(0.01, 100)), max_size=60))
@settings(deadline=None, max_examples=200)
def test_equal_to_the_reference(rows: list[tuple[float, float]]) -> None:
    values, weights = (np.array(rows).T if rows else np.empty((2, 0))).copy()
    found = pool_adjacent_violators(values, weights)
    expected = isotonic_regression(values, sample_weight=weights) if rows else values
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert (np.diff(found) >= 0).all()


def test_known_answer() -> None:
    values, weights = np.array([1.0, 3.0, 2.0, 0.0, 4.0]), np.array([1.0, 1.0, 1.0, 2.0, 1.0])
    np.testing.assert_allclose(pool_adjacent_violators(values, weights), [1, 1.25, 1.25, 1.25, 4])
