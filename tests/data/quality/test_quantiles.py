from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.quality.quantiles import ExactQuantiles, new_sketch, sketch_from_bytes
from weiml.errors import DataError

NUMBERS = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=50)
LEVELS = np.linspace(0, 1, 21)


@given(NUMBERS, st.integers(0, 50))
def test_few_values_are_exact_in_parts_and_after_saving(values: list[float], cut: int) -> None:
    whole, left, right = new_sketch(), new_sketch(), new_sketch()
    whole.add(np.array(values))
    left.add(np.array(values[:cut]))
    right.add(np.array(values[cut:]))
    left.merge(sketch_from_bytes(right.to_bytes()))
    n = len(values)
    ordered = np.sort(values)
    expected = [ordered[max(-(-k * n // 20) - 1, 0)] for k in range(21)]
    points = np.array(values)
    shares = [(points <= x).mean() for x in values]
    for sketch in (whole, left):
        np.testing.assert_array_equal(sketch.quantiles(LEVELS), expected)
        np.testing.assert_allclose(sketch.cdf(points), shares)


def test_memory_is_bounded_and_ranks_stay_close(rng: np.random.Generator) -> None:
    sketch = ExactQuantiles(bound=1000)
    values = rng.normal(size=40_000)
    for part in np.array_split(values, 20):
        sketch.add(part)
    assert len(sketch.to_bytes()) <= 16 * 1000
    np.testing.assert_allclose(sketch.cdf(0.0), (values <= 0).mean(), atol=0.02)
    ranks = np.searchsorted(np.sort(values), sketch.quantiles(LEVELS)) / len(values)
    np.testing.assert_allclose(ranks, LEVELS, atol=0.02)
    assert sketch.quantiles(1.0) == values.max()


def test_nothing_seen_and_damaged_bytes() -> None:
    assert np.isnan(new_sketch().quantiles(0.5))
    assert np.isnan(new_sketch().cdf([0.0])).all()
    with pytest.raises(DataError, match="damaged"):
        sketch_from_bytes(b"12345")
