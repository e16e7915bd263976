"""Scalings against scikit-learn and known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from weiml.features.transforms import MaxNorm, MinMax, Standard, Transform
from weiml.features.transforms.scaling import FittedMaxNorm


def applied(transform: Transform, train: list[float | None], test: list[float | None]) -> Any:
    fitted = transform.fit(pa.table({"x": pa.array(train, pa.float64())}))
    made = fitted.apply(pa.table({"x": pa.array(test, pa.float64())}))
    return made.column(transform.outputs[0]).to_pylist()


@pytest.mark.parametrize(
    ("transform", "reference"), [(MinMax("x"), MinMaxScaler()), (Standard("x"), StandardScaler())]
)
def test_scalings_are_scikit_learns(
    transform: Transform, reference: MinMaxScaler | StandardScaler, rng: np.random.Generator
) -> None:
    train, test = rng.normal(50, 9, 1000), rng.normal(50, 20, 100)
    expected = reference.fit(train[:, None]).transform(test[:, None])[:, 0]
    np.testing.assert_allclose(applied(transform, list(train), list(test)), expected, rtol=1e-9)


def test_known_answers() -> None:
    train: list[float | None] = [2.0, None, 6.0, float("inf")]
    assert applied(MinMax("x"), train, [2.0, 4.0, 8.0, None]) == [0.0, 0.5, 1.5, None]
    assert applied(MinMax("x", clip=True), train, [0.0, 4.0, 8.0]) == [0.0, 0.5, 1.0]
    assert applied(Standard("x"), train, [2.0, 4.0, float("nan")]) == [-1.0, 0.0, None]
    assert applied(MaxNorm("x"), [-8.0, 2.0], [4.0, -8.0, 0.0, 16.0]) == [0.5, -1.0, 0.0, 2.0]


def test_a_constant_column_gives_zeros() -> None:
    assert applied(MinMax("x"), [3.0, 3.0], [3.0]) == [0.0]
    assert applied(Standard("x"), [3.0, 3.0], [3.0]) == [0.0]
    assert applied(MaxNorm("x"), [0.0, 0.0], [0.0, 1e-6]) == [0.0, pytest.approx(0.1)]


def test_the_whole_range_of_doubles() -> None:
    most = 1.7976931348623157e308
    assert applied(MinMax("x"), [-most, most], [-most, 0.0, most]) == [0.0, 0.5, 1.0]


def test_max_norm_goes_on_online() -> None:
    def table(*x: float) -> pa.Table:
        return pa.table({"x": list(x)})

    fitted = MaxNorm("x").fit(table(1.0, -2.0))
    assert isinstance(fitted, FittedMaxNorm)
    seen = fitted.resume()
    seen.add(table(0.5))
    assert seen.fitted() == fitted
    seen.add(table(-4.0, 1.0))
    assert seen.fitted() == MaxNorm("x").fit(table(1.0, -2.0, 0.5, -4.0, 1.0))
