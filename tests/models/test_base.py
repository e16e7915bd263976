"""Models are built from names and configurations; what they promise is in test_checks.py."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.models import Columns, LogisticRegressionConfig, WideDeepConfig, build_model
from weiml.models.checks import example_batch


def test_models_are_built_by_name() -> None:
    columns = Columns.of(example_batch(1))
    with pytest.raises(ConfigError, match="'wide_dep'; did you mean 'wide_deep'"):
        build_model("wide_dep", {}, columns)
    with pytest.raises(ConfigError, match="LogisticRegressionConfig"):
        build_model("lr", WideDeepConfig(), columns)
    with pytest.raises(ConfigError, match="unknown key 'optimiser'; did you mean 'optimizer'"):
        build_model("lr", {"optimiser": {}}, columns)
    model = build_model("lr", LogisticRegressionConfig(), columns)
    again = build_model("lr", model.config_mapping(), columns)
    assert again.config == model.config


def test_a_model_without_a_dense_part_takes_none() -> None:
    model = build_model("lr", {}, Columns.of(example_batch(1)))
    assert model.dense_gradient() is None
    assert not model.dense_vector().size
    with pytest.raises(DataError, match="has no dense part"):
        model.set_dense_vector(np.zeros(1, np.float32))
    with pytest.raises(ConfigError, match="cannot be scaled by -1"):
        model.scale_dense_lr(-1.0)


def test_other_columns_are_named() -> None:
    model = build_model("lr", {}, Columns(slots=("user",), dense_names=()))
    with pytest.raises(DataError, match=r"made for slots \('user',\)"):
        model.check(example_batch(2))
