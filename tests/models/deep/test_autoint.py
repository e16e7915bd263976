"""AutoInt: attention equals loops over heads and fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import AutoIntConfig

HEADS, SIZE = 2, 6


def attend(project: np.ndarray, fields: np.ndarray, scaled: bool) -> np.ndarray:
    """One layer on the fields (F, d) of one example."""
    query, key, value, residual = project.reshape(4, SIZE, -1)
    out = np.zeros((len(fields), SIZE))
    for h in range(HEADS):
        own = slice(h * SIZE // HEADS, (h + 1) * SIZE // HEADS)
        for m in range(len(fields)):
            scores = np.array([(query[own] @ fields[m]) @ (key[own] @ e) for e in fields])
            scores = np.exp(scores / (np.sqrt(SIZE / HEADS) if scaled else 1))
            scores /= scores.sum()
            out[m, own] = sum(a * (value[own] @ e) for a, e in zip(scores, fields, strict=True))
    return np.asarray(np.maximum(out + fields @ residual.T, 0))


@pytest.mark.parametrize("hidden", [(), (6, 4)])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dense_fields", [False, True])
def test_it_equals_the_formula(draw: Any, hidden: Any, scaled: bool, dense_fields: bool) -> None:
    config = {"num_attention_layers": 2, "attention_dim": SIZE, "num_heads": HEADS}
    options = {"hidden": hidden, "scaled": scaled, "dense_fields": dense_fields}
    drawn = draw("autoint", **config, **options)
    attended = []
    for fields in drawn.fields(dense_fields):
        for layer in range(2):
            fields = attend(drawn[f"attention.{layer}.project.weight"], fields, scaled)
        attended.append(fields.reshape(-1))
    wide = np.concatenate([np.stack(attended), drawn.dense], 1)
    expected = wide @ drawn["output.weight"][0] + drawn["output.bias"]
    if hidden:
        expected = expected + drawn.mlp("mlp", drawn.flat)[:, 0]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-9)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="attention_dim must be a multiple of num_heads"):
        AutoIntConfig(attention_dim=10, num_heads=4)
    with pytest.raises(ConfigError, match="num_attention_layers must be at least 1"):
        AutoIntConfig(num_attention_layers=0)
