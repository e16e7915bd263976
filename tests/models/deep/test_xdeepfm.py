"""xDeepFM: the compressed interaction network equals loops over its indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import XDeepFMConfig


@pytest.mark.parametrize("dense_fields", [False, True])
@pytest.mark.parametrize("act", ["none", "relu"])
def test_it_equals_the_formula(draw: Any, act: str, dense_fields: bool) -> None:
    sizes = (3, 2)
    drawn = draw("xdeepfm", cin=sizes, cin_activation=act, hidden=[6], dense_fields=dense_fields)
    first = drawn.fields(dense_fields)
    F = first.shape[1]
    x, sums = first, []
    for layer, size in enumerate(sizes):
        W = drawn[f"cin.weights.{layer}"]
        after = np.zeros((len(x), size, x.shape[2]))
        for h in range(size):
            for i in range(x.shape[1]):
                for j in range(F):
                    after[:, h] += W[h, i, j] * x[:, i] * first[:, j]
        x = np.maximum(after, 0) if act == "relu" else after
        sums.append(x.sum(2))
    interactions = np.concatenate(sums, 1) @ drawn["output.weight"][0] + drawn["output.bias"]
    expected = drawn.linear + interactions + drawn.mlp("mlp", drawn.flat)[:, 0]
    np.testing.assert_allclose(drawn.logits, expected, rtol=1e-9)


@pytest.mark.parametrize("sizes", [(8, 0), ()])
def test_wrong_sizes_are_named(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="cin must"):
        XDeepFMConfig(cin=sizes)
