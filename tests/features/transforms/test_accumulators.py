"""What accumulators of numbers share: zeros of either sign, second passes."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from weiml.features.transforms import CDF, Fill, MinMax, QuantileBuckets, Transform


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
