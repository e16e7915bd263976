"""Bucket numbers against numpy's search, and where borders lie."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.features.transforms import EqualWidth, Fitted, QuantileBuckets
from weiml.features.transforms.buckets import FittedBuckets, bucket_numbers

finite = st.floats(allow_nan=False, allow_infinity=False)


def borders(fitted: Fitted) -> list[float]:
    assert isinstance(fitted, FittedBuckets)
    found: list[float] = fitted.borders.tolist()
    return found


def table(values: object) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.float64())})


@given(st.lists(finite, max_size=40), st.lists(st.one_of(finite, st.just(np.nan)), max_size=300))
def test_numbers_are_those_of_a_search(edges: list[float], values: list[float]) -> None:
    ordered, x = np.unique(np.array(edges, np.float64)), np.array([*values, *edges], np.float64)
    expected = np.where(np.isnan(x), 0, 1 + np.searchsorted(ordered, x, side="right"))
    found = bucket_numbers(x, ordered)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_equal_width() -> None:
    fitted = EqualWidth("x", buckets=4).fit(table([0.0, 8.0, 1.0, None]))
    assert borders(fitted) == [2.0, 4.0, 6.0]
    made = fitted.apply(table([-5.0, 1.9, 2.0, 8.0, 99.0, None, float("nan")]))
    assert made.column("x").to_pylist() == [1, 1, 2, 4, 4, 0, 0]


def test_the_whole_range_of_doubles() -> None:
    most = 1.7976931348623157e308
    assert borders(EqualWidth("x", buckets=2).fit(table([-most, most]))) == [0.0]


def test_quantile_buckets_hold_equal_shares(rng: np.random.Generator) -> None:
    x = rng.lognormal(0, 2, 20_000)
    fitted = QuantileBuckets("x", buckets=20).fit(table(x))
    found = fitted.apply(table(x)).column("x").to_numpy()
    assert np.abs(np.bincount(found, minlength=21)[1:] - 1000).max() < 20
    reference = np.quantile(x, np.arange(1, 20) / 20)
    np.testing.assert_allclose(borders(fitted), reference, rtol=1e-3)


def test_few_values_are_buckets_themselves() -> None:
    fitted = QuantileBuckets("x", buckets=4).fit(table([5.0] * 90 + [1.0, 2.0, 7.0]))
    assert borders(fitted) == [2.0, 5.0, 7.0]
    assert fitted.apply(table([1.0, 2.0, 5.0, 7.0])).column("x").to_pylist() == [1, 2, 3, 4]


def test_a_tie_takes_several_quantiles_but_one_bucket() -> None:
    values = [0.0] * 800 + list(np.linspace(1, 2, 200))
    fitted = QuantileBuckets("x", buckets=10).fit(table(values))
    assert borders(fitted) == pytest.approx([0.2, 1.5], abs=0.01)
    constant = QuantileBuckets("x").fit(table([3.0, 3.0]))
    assert constant.apply(table([3.0, None])).column("x").to_pylist() == [1, 0]


@pytest.mark.parametrize("buckets", [-1, 0, 1, 1 << 20])
def test_wrong_numbers_of_buckets_are_told(buckets: int) -> None:
    with pytest.raises(ConfigError, match="buckets must be"):
        EqualWidth("x", buckets=buckets)
