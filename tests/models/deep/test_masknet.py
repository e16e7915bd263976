"""MaskNet: serial and parallel blocks equal the paper's equations, example by example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import MaskNetConfig


def layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift)


def block(drawn: Any, at: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    hidden = drawn[f"{at}.mask.0.weight"] @ x + drawn[f"{at}.mask.0.bias"]
    mask = drawn[f"{at}.mask.2.weight"] @ np.maximum(hidden, 0) + drawn[f"{at}.mask.2.bias"]
    out = drawn[f"{at}.layer.weight"] @ (mask * h) + drawn[f"{at}.layer.bias"]
    normed = layer_norm(out, drawn[f"{at}.norm.weight"], drawn[f"{at}.norm.bias"])
    return np.asarray(np.maximum(normed, 0))


@pytest.mark.parametrize("structure", ["parallel", "serial"])
@pytest.mark.parametrize("hidden", [(), (4,)])
def test_it_equals_the_formula(draw: Any, structure: str, hidden: tuple[int, ...]) -> None:
    drawn = draw("masknet", structure=structure, blocks=(5, 4), mask_ratio=0.5, hidden=hidden)
    outputs = []
    for embeddings, dense, x in zip(drawn.embeddings, drawn.dense, drawn.flat, strict=True):
        normed = [
            layer_norm(e, drawn["norm.scale"][s], drawn["norm.shift"][s])
            for s, e in enumerate(embeddings)
        ]
        start = np.concatenate([*normed, dense])
        first = block(drawn, "blocks.0", x, start)
        if structure == "serial":
            outputs.append(block(drawn, "blocks.1", x, first))
        else:
            outputs.append(np.concatenate([first, block(drawn, "blocks.1", x, start)]))
    expected = drawn.mlp("mlp", np.stack(outputs))[:, 0]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blocks": ()}, "at least one block"),
        ({"blocks": (8, 0)}, "blocks must be at least 1"),
        ({"mask_ratio": 0.0}, "mask_ratio must be above 0"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskNetConfig(**values)
