"""Networks compute in bfloat16 too, and answer about the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weiml.models import model_config
from weiml.models.checks import example_batch, trained

MODELS: list[dict[str, Any]] = [
    {"name": "autoint"},
    {"name": "dcn_v2", "cross": "mixture"},
    {"name": "dcn_v2", "structure": "stacked"},
    {"name": "deepfm"},
    {"name": "fibinet", "bilinear": "interaction"},
    {"name": "final_mlp", "second_hidden": [8], "num_heads": 2},
    {"name": "masknet", "structure": "serial"},
    {"name": "pnn", "product": "both"},
    {"name": "xdeepfm"},
]


@pytest.mark.parametrize("values", MODELS, ids=lambda values: "-".join(map(str, values.values())))
def test_half_precision_answers_about_the_same(values: dict[str, Any]) -> None:
    batches = [example_batch(64, seed) for seed in range(3)]
    test = example_batch(100, 9)
    values = {"hidden": [16, 8], "dense_fields": True, **values}
    if values["name"] in ("dcn_v2", "final_mlp", "masknet"):
        del values["dense_fields"]
    half, whole = (
        trained(model_config({**values, "precision": precision}), batches).score(test)
        for precision in ("bfloat16", "float32")
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).mean() < 0.03
