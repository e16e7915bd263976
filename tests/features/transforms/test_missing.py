"""Missing values: what counts as missing, and what is filled in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import ConfigError
from weiml.features.transforms import Fill, MissingIndicator

GAPS = pa.array([1.0, None, float("nan"), float("inf"), 2.0, 9.0], pa.float64())


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (Fill("x"), 4.0),
        (Fill("x", by="median"), 2.0),
        (Fill("x", by="constant", value=-1.0), -1.0),
    ],
)
def test_fillings(fill: Fill, expected: float) -> None:
    table = pa.table({"x": GAPS})
    made = fill.fit(table).apply(table).column("x").to_pylist()
    assert made == [1.0, expected, expected, expected, 2.0, 9.0]


def test_a_median_is_numpys(rng: np.random.Generator) -> None:
    x = rng.normal(size=1001)
    fitted = Fill("x", by="median").fit(pa.table({"x": x}))
    assert fitted.to_mapping()["state"]["fill"] == np.median(x)


def test_indicators() -> None:
    table = pa.table({"x": GAPS, "s": ["a", None, "", "nan", "b", None]})
    made = MissingIndicator("x").fit(table).apply(table)
    assert made.column("x_missing").to_pylist() == [False, True, True, True, False, False]
    made = MissingIndicator("s", output="gone").fit(table).apply(table)
    assert made.column("gone").to_pylist() == [False, True, False, False, False, True]


def test_wrong_constants_are_told() -> None:
    with pytest.raises(ConfigError, match="finite"):
        Fill("x", by="constant", value=float("nan"))
    with pytest.raises(ConfigError, match="constant"):
        Fill("x", value=3.0)
