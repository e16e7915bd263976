"""What accumulators of numbers share: zeros of either sign, second passes."""

from __future__ import annotations

import copy
import json

import numpy as np
import pyarrow as pa
import pytest

from weiml.errors import DataError
from weiml.features.transforms import CDF, Fill, MinMax, QuantileBuckets, Together, Transform


@pytest.mark.parametrize("values", [[-0.0, 0.0], [0.0, -0.0], [-0.0]])
def test_zeros_of_either_sign_are_one(values: list[float]) -> None:
    fitted = MinMax("x").fit(pa.table({"x": values}))
    assert json.dumps(fitted.to_mapping()["state"]) == '{"low": 0.0, "high": 0.0}'


@pytest.mark.parametrize("transform", [CDF("x"), QuantileBuckets("x"), Fill("x", by="median")])
def test_a_second_pass_is_asked_for_only_where_needed(
    transform: Transform, rng: np.random.Generator
) -> None:
    plain = rng.normal(size=60_000)
    seen = transform.accumulator()
    seen.add(pa.table({"x": plain}))
    assert seen.then() is None
    seen = transform.accumulator()
    seen.add(pa.table({"x": np.where(rng.random(60_000) < 0.2, 0.3, plain)}))
    assert seen.then() is not None
    seen.fitted()  # works all the same


@pytest.mark.parametrize("transform", [CDF("x"), QuantileBuckets("x"), Fill("x", by="median")])
@pytest.mark.parametrize("together", [False, True])
def test_accumulators_of_different_passes_do_not_merge(
    transform: Transform, together: bool, rng: np.random.Generator
) -> None:
    if together:
        transform = Together(transform, MinMax("x", output="y"))
    first = transform.accumulator()
    first.add(pa.table({"x": np.where(rng.random(60_000) < 0.2, 0.3, rng.normal(size=60_000))}))
    second = first.then()
    assert second is not None
    for one, other in ((first, second), (second, first)):
        with pytest.raises(DataError, match="different passes"):
            one.merge(other)
    second.merge(copy.deepcopy(second))


def test_parts_that_are_fitted_to_different_data_do_not_merge(rng: np.random.Generator) -> None:
    transform = Together(CDF("x"), MinMax("y"))
    x = np.where(rng.random(60_000) < 0.2, 0.3, rng.normal(size=60_000))
    later = []
    for high in (1.0, 2.0):
        first = transform.accumulator()
        first.add(pa.table({"x": x, "y": np.linspace(0, high, x.size)}))
        later.append(first.then())
    assert later[0] is not None
    assert later[1] is not None
    with pytest.raises(DataError, match="different passes"):
        later[0].merge(later[1])
