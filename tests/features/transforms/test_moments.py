"""Exact sums against fractions, whatever the order, from the least to the greatest double."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.features.transforms import moments
from weiml.features.transforms.moments import Moments

finite = st.floats(allow_nan=False, allow_infinity=False)


def moments_of(values: list[float] | np.ndarray) -> Moments:
    seen = Moments()
    seen.add(np.asarray(values, np.float64))
    return seen


@given(st.lists(finite, min_size=1, max_size=40), st.integers(0, 40))
def test_mean_and_deviation_are_the_exact_ones_rounded(values: list[float], cut: int) -> None:
    seen = moments_of(values[:cut])
    seen.merge(moments_of(values[cut:]))
    exact = [Fraction(v) for v in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    assert seen.count == len(values)
    assert seen.mean == float(mean)
    variance = sum(((v - mean) ** 2 for v in exact), Fraction(0)) / len(exact)
    if variance == 0:
        assert seen.deviation == 0
    else:
        squared = Fraction(seen.deviation) ** 2
        assert abs(squared / variance - 1) < Fraction(1, 2**50) or seen.deviation < 1e-300


def test_what_floats_lose_is_kept() -> None:
    assert moments_of([1e16, 1.0, -1e16]).mean == 1 / 3
    assert moments_of([1e9, 1e9 + 1, 1e9 + 2]).deviation == pytest.approx(math.sqrt(2 / 3), 1e-15)
    assert moments_of([1.7e308, -1.7e308]).deviation == 1.7e308
    assert moments_of([5e-324, 5e-324]).mean == 5e-324


def test_missing_values_are_counted_only() -> None:
    seen = moments_of([1.0, np.nan, np.inf, -np.inf, 3.0])
    assert (seen.count, seen.missing, seen.mean, seen.deviation) == (2, 3, 2.0, 1.0)
    assert (moments_of([]).mean, moments_of([]).deviation) == (0.0, 0.0)


def test_carries_are_taken_out_in_time(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    values = np.concatenate([rng.normal(size=1000), rng.normal(size=1000) * 1e200])
    expected = moments_of(values)
    monkeypatch.setattr(moments, "_MOST", 7)
    often = moments_of(values[:900])
    often.merge(pickle.loads(pickle.dumps(moments_of(values[900:]))))
    # Seven values and a carry fit in less than 2³⁷; without carries a thousand do not.
    assert np.abs(often._digits[:, :-1]).max() < 1 << 37
    assert (often.mean, often.deviation) == (expected.mean, expected.deviation)
