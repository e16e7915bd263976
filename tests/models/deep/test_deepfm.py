"""DeepFM equals the sum over pairs, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weiml.models.deep.deepfm import sum_of_pairs


def by_pairs(fields: np.ndarray) -> np.ndarray:
    total = np.zeros(len(fields))
    for i in range(fields.shape[1]):
        for j in range(i):
            total += (fields[:, i] * fields[:, j]).sum(1)
    return total


@pytest.mark.parametrize("dense_fields", [False, True])
def test_it_equals_the_formula(draw: Any, dense_fields: bool) -> None:
    drawn = draw("deepfm", hidden=[6, 4], dense_fields=dense_fields)
    fields = drawn.fields(dense_fields)
    assert fields.shape[1] == 4 + 2 * dense_fields
    expected = drawn.linear + by_pairs(fields) + drawn.mlp("mlp", drawn.flat)[:, 0]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-10)


@given(st.integers(0, 4), st.integers(1, 7), st.integers(1, 5), st.integers(0, 99))
def test_the_identity_holds_for_any_shape(count: int, fields: int, dim: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((count, fields, dim))
    np.testing.assert_allclose(sum_of_pairs(torch.from_numpy(x)), by_pairs(x), atol=1e-12)
