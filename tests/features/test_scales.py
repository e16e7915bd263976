"""What is fitted of numbers: the same however they are cut into parts."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.features import Continuous
from weiml.features.scales import ExactThenSketch, Scale, ScaleAccumulator

AGE = Continuous("age", buckets=4)
numbers_of = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), max_size=40)
parts_of = st.lists(numbers_of, min_size=1, max_size=5)


def fitted(parts: list[list[float]], merged: bool) -> Scale:
    whole = ScaleAccumulator(AGE)
    for part in parts:
        if merged:
            one = ScaleAccumulator(AGE)
            one.add(np.array(part, np.float64))
            whole.merge(pickle.loads(pickle.dumps(one)))
        else:
            whole.add(np.array(part, np.float64))
    return whole.fitted()


@given(parts_of, st.booleans())
def test_parts_fit_like_the_whole(parts: list[list[float]], merged: bool) -> None:
    scale = fitted(parts, merged)
    numbers = np.array([x for part in parts for x in part], np.float64)
    known = numbers[~np.isnan(numbers)]
    if known.size == 0:
        assert scale == Scale(0.0, 1.0, ())
        return
    size = float(np.abs(known).max())
    assert scale.mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-9 * size)
    if known.std() > 1e-9 * size:
        assert scale.deviation == pytest.approx(known.std(), rel=1e-6)
    assert scale.boundaries == tuple(np.unique(np.quantile(known, [0.25, 0.5, 0.75])))


def test_far_from_zero_no_digits_are_lost() -> None:
    rng = np.random.default_rng(0)
    numbers = 1e9 + rng.normal(0, 1e-2, 10_000)
    scale = fitted(np.split(numbers, 10), merged=True)  # type: ignore[arg-type]
    assert scale.deviation == pytest.approx(numbers.std(), rel=1e-4)


@pytest.mark.parametrize("number", [0.0, 0.1, -1e150, 1e-300])
def test_a_constant_has_deviation_1_whatever_its_mean_is_rounded_to(number: float) -> None:
    assert fitted([[number] * 3, [number] * 7], merged=True).deviation == 1.0


def test_numbers_too_large_to_be_squared_are_named() -> None:
    with pytest.raises(DataError, match="'age' holds numbers too large"):
        fitted([[1e300, -1e300], [1.0]], merged=True)


def test_infinities_are_missing_and_log1p_needs_more_than_minus_one() -> None:
    seen = ScaleAccumulator(Continuous("age", transform="log1p"))
    seen.add(np.array([0.0, np.inf, -np.inf, np.nan]))
    assert (seen.count, seen.fitted()) == (1, Scale(0.0, 1.0, ()))
    with pytest.raises(DataError, match="'age'.*log1p needs numbers above -1, got -2"):
        seen.add(np.array([-2.0]))


class Kept:
    """A sketch that keeps everything, to see that it is given everything."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def add(self, values: np.ndarray) -> None:
        self.values.extend(values.tolist())

    def merge(self, other: Kept) -> None:
        self.values.extend(other.values)

    def quantiles(self, q: np.ndarray) -> np.ndarray:
        return np.asarray(np.quantile(self.values, q)) + 1000


@given(st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=4), st.data())
def test_beyond_its_limit_a_sketch_takes_over(parts: list[list[int]], draw: st.DataObject) -> None:
    made = []
    for part in parts:
        quantiles = ExactThenSketch(limit=5, sketch=Kept)
        cut = draw.draw(st.integers(0, len(part)))
        for piece in (part[:cut], part[cut:]):
            quantiles.add(np.array(piece, np.float64))
        made.append(quantiles)
    whole = made[0]
    for other in made[1:]:
        whole.merge(other)
    numbers = [x for part in parts for x in part]
    if numbers:
        offset = 1000 if len(numbers) > 5 else 0
        got = whole.quantiles(np.array([0.0, 0.5, 1.0]))
        np.testing.assert_allclose(got, np.quantile(numbers, [0.0, 0.5, 1.0]) + offset)
