"""Functions of one number: known answers, and what lies outside of their domain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import ConfigError
from weiml.features.transforms import Clip, Log1p, Powers, SignedLog, Sqrt, Square, Transform


def applied(transform: Transform, values: list[float | None]) -> dict[str, list[float | None]]:
    table = pa.table({"x": pa.array(values, pa.float64())})
    made: dict[str, list[float | None]] = transform.fit(table).apply(table).to_pydict()
    return made


@pytest.mark.parametrize(
    ("transform", "given", "expected"),
    [
        (Log1p("x"), [0.0, math.e - 1, -1.0, -2.0], [0.0, 1.0, None, None]),
        (SignedLog("x"), [1 - math.e, 0.0, math.e - 1], [-1.0, 0.0, 1.0]),
        (Square("x"), [-3.0, 1e200], [9.0, None]),
        (Sqrt("x"), [9.0, -1.0, 0.0], [3.0, None, 0.0]),
        (Clip("x", low=-1), [-3.0, 3.0, None], [-1.0, 3.0, None]),
        (Clip("x", low=-1, high=2), [-3.0, 3.0, float("inf")], [-1.0, 2.0, None]),
    ],
)
def test_known_answers(
    transform: Transform, given: list[float | None], expected: list[float | None]
) -> None:
    assert applied(transform, given)["x"] == pytest.approx(expected)


def test_powers_stand_beside_the_column() -> None:
    assert applied(Powers("x"), [4.0, None]) == {
        "x": [4.0, None],
        "x_square": [16.0, None],
        "x_sqrt": [2.0, None],
    }
    assert list(applied(Powers("x", output="p"), [4.0])) == ["x", "p_square", "p_sqrt"]


def test_signed_log_keeps_order_and_sign(rng: np.random.Generator) -> None:
    x = np.sort(rng.normal(0, 1e3, 1000))
    bent = np.array(applied(SignedLog("x"), list(x))["x"])
    assert (np.diff(bent) > 0).all()
    np.testing.assert_allclose(np.sign(bent) * np.expm1(np.abs(bent)), x, rtol=1e-12)


@pytest.mark.parametrize("limits", [{}, {"low": 2.0, "high": 1.0}, {"low": float("nan")}])
def test_wrong_limits_are_told(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="low"):
        Clip("x", **limits)
