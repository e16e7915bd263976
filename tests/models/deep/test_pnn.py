"""PNN: products of pairs equal loops over them, of inner, outer and both kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import model_config


def inner(fields: np.ndarray) -> np.ndarray:
    F = fields.shape[1]
    columns = [(fields[:, i] * fields[:, j]).sum(1) for i in range(F) for j in range(i + 1, F)]
    return np.stack(columns, 1)


def outer(fields: np.ndarray) -> np.ndarray:
    B, F, d = fields.shape
    total = np.zeros((B, d, d))
    for i in range(F):
        for j in range(F):
            total += fields[:, i, :, None] * fields[:, j, None, :]
    return np.stack([total[:, m, n] for m in range(d) for n in range(m, d)], 1)


@pytest.mark.parametrize("dense_fields", [False, True])
@pytest.mark.parametrize("product", ["inner", "outer", "both"])
def test_it_equals_the_formula(draw: Any, product: str, dense_fields: bool) -> None:
    drawn = draw("pnn", hidden=[6, 4], product=product, dense_fields=dense_fields)
    kinds = {"inner": [inner], "outer": [outer], "both": [inner, outer]}[product]
    products = [kind(drawn.fields(dense_fields)) for kind in kinds]
    expected = drawn.mlp("mlp", np.concatenate([drawn.flat, *products], 1))[:, 0]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-10)


def test_other_products_are_refused() -> None:
    with pytest.raises(ConfigError, match="product"):
        model_config({"name": "pnn", "product": "iner"})
