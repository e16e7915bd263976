"""DCN-V2: cross layers equal the paper's equations, expert by expert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import DCNV2Config

LAYERS, EXPERTS, RANK = 2, 3, 2


def full(drawn: Any, at: str, first: np.ndarray, x: np.ndarray) -> np.ndarray:
    W, b = drawn[f"{at}.product.weight"], drawn[f"{at}.product.bias"]
    return np.asarray(first * (W @ x + b) + x)


def low_rank(drawn: Any, at: str, first: np.ndarray, x: np.ndarray) -> np.ndarray:
    U, V, b = drawn[f"{at}.up.weight"], drawn[f"{at}.down.weight"].T, drawn[f"{at}.up.bias"]
    assert np.linalg.matrix_rank(U @ V.T) == RANK
    return np.asarray(first * ((U @ V.T) @ x + b) + x)


def mixture(drawn: Any, at: str, first: np.ndarray, x: np.ndarray) -> np.ndarray:
    b = drawn[f"{at}.up.bias"]
    gates = np.exp(drawn[f"{at}.gate.weight"] @ x + drawn[f"{at}.gate.bias"])
    total = x.copy()
    for k in range(EXPERTS):
        own = slice(RANK * k, RANK * (k + 1))
        V, U = drawn[f"{at}.down.weight"][own].T, drawn[f"{at}.up.weight"][:, own]
        h = np.tanh(drawn[f"{at}.middle"][k] @ np.tanh(V.T @ x))
        total += gates[k] / gates.sum() * first * (U @ h + b)
    return total


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("cross", [full, low_rank, mixture])
def test_it_equals_the_formula(draw: Any, cross: Any, structure: str) -> None:
    config = {"num_cross_layers": LAYERS, "rank": RANK, "experts": EXPERTS, "hidden": [6, 4]}
    drawn = draw("dcn_v2", cross=cross.__name__, structure=structure, **config)
    x = drawn.flat
    for layer in range(LAYERS):
        pairs = zip(drawn.flat, x, strict=True)
        x = np.stack([cross(drawn, f"crosses.{layer}", first, now) for first, now in pairs])
    if structure == "stacked":
        expected = drawn.mlp("mlp", x)[:, 0]
    else:
        w = drawn["output.weight"][0]
        deep = drawn.mlp("mlp", drawn.flat)
        expected = x @ w[: x.shape[1]] + deep @ w[x.shape[1] :] + drawn["output.bias"]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-9)


@pytest.mark.parametrize("knob", ["num_cross_layers", "rank", "experts"])
def test_wrong_sizes_are_named(knob: str) -> None:
    with pytest.raises(ConfigError, match=f"{knob} must be at least 1, got 0"):
        DCNV2Config(**{knob: 0})  # type: ignore[arg-type]
