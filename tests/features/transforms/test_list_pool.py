"""One number of each list."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import ConfigError
from weiml.features.transforms import ListPool, transform_from_mapping

LISTS = [[1.0, None, 4.0], [], None, [float("nan"), -2.0, float("inf")], [None]]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("sum", [5.0, 0.0, 0.0, -2.0, 0.0]),
        ("mean", [2.5, None, None, -2.0, None]),
        ("max", [4.0, None, None, -2.0, None]),
        ("min", [1.0, None, None, -2.0, None]),
        ("last", [4.0, None, None, -2.0, None]),
        ("count", [2.0, 0.0, 0.0, 1.0, 0.0]),
    ],
)
def test_known_answers(
    by: Literal["sum", "mean", "max", "min", "last", "count"], expected: list[float | None]
) -> None:
    table = pa.table({"x": pa.array(LISTS, pa.list_(pa.float64()))})
    assert ListPool("x", by=by).fit(table).apply(table).column("x").to_pylist() == expected


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int32()), pa.large_list(pa.float32()), pa.list_(pa.int8(), 2)]
)
def test_lists_of_any_kind(kind: pa.DataType) -> None:
    table = pa.table({"x": pa.array([[9, 9], [1, 2], None, [3, 5]], kind)}).slice(1)
    made = ListPool("x", by="sum").fit(table).apply(table).column("x").to_pylist()
    assert made == [3.0, 0.0, 8.0]


def test_against_numpy(rng: np.random.Generator) -> None:
    lists = [rng.normal(size=rng.integers(1, 9)) for _ in range(200)]
    table = pa.table({"x": lists})
    made = ListPool("x", by="mean").fit(table).apply(table).column("x").to_numpy()
    np.testing.assert_allclose(made, [values.mean() for values in lists], rtol=1e-12)


def test_unknown_ways_are_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        transform_from_mapping({"type": "list_pool", "column": "x", "by": "meen"})
