"""FiBiNET: importance and bilinear products equal loops over fields and pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import FiBiNETConfig


def products(weight: np.ndarray, kind: str, fields: np.ndarray) -> np.ndarray:
    """Of one example (F, d): the pairs' products, side by side."""
    found: list[np.ndarray] = []
    for i in range(len(fields)):
        for j in range(i + 1, len(fields)):
            W = weight[{"all": 0, "each": i, "interaction": len(found)}[kind]]
            found.append((W @ fields[i]) * fields[j])
    return np.concatenate(found)


@pytest.mark.parametrize("dense_fields", [False, True])
@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_it_equals_the_formula(draw: Any, kind: str, dense_fields: bool) -> None:
    drawn = draw("fibinet", bilinear=kind, reduction=2, hidden=[6], dense_fields=dense_fields)
    weight = drawn["pairs.weight"]
    F = 4 + 2 * dense_fields
    assert len(weight) == {"all": 1, "each": F - 1, "interaction": F * (F - 1) // 2}[kind]
    rows = []
    for fields, dense in zip(drawn.fields(dense_fields), drawn.dense, strict=True):
        hidden = np.maximum(drawn["senet.squeeze.weight"] @ fields.mean(1), 0)
        importance = np.maximum(drawn["senet.excite.weight"] @ hidden, 0)
        weighted = np.diag(importance) @ fields
        pairs = [products(weight, kind, fields), products(weight, kind, weighted)]
        rows.append(np.concatenate([*pairs, dense]))
    expected = drawn.linear + drawn.mlp("mlp", np.stack(rows))[:, 0]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-9)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ConfigError, match="reduction must be at least 1"):
        FiBiNETConfig(reduction=0)
