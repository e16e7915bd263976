"""Training configurations: what files say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weiml.config import from_mapping, load_config
from weiml.errors import ConfigError
from weiml.models import WideDeepConfig
from weiml.ps import FTRL
from weiml.train import TrainConfig


@pytest.mark.parametrize("name", ["lr", "wide_deep"])
def test_the_feeds_configurations_load(root: Path, name: str) -> None:
    config = load_config(TrainConfig, root / "configs" / "models" / f"{name}.toml")
    assert config.model_config.name == name
    assert config.transport == "ray"
    assert config.num_shards == 2


def test_overrides_reach_the_models_optimizers(root: Path) -> None:
    file = root / "configs" / "models" / "wide_deep.toml"
    config = load_config(TrainConfig, file, ["model.linear.alpha=0.5", "staleness=asp"])
    model = config.model_config
    assert isinstance(model, WideDeepConfig)
    assert isinstance(model.linear, FTRL)
    assert model.linear.alpha == 0.5
    assert model.hidden == (256, 128, 64)
    assert config.staleness_bound is None


def test_staleness_is_a_number_or_none() -> None:
    assert TrainConfig(staleness=3).staleness_bound == 3
    assert TrainConfig().staleness_bound == 0
    assert TrainConfig(staleness=None).staleness_bound is None


def test_defaults_of_wide_and_deep() -> None:
    config = WideDeepConfig()
    assert config.hidden == (256, 128, 64)
    assert config.embedding_dim == 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"num_workers": 0}, "num_workers"),
        ({"staleness": -1}, "staleness"),
        ({"seed": -1}, "seed"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"model": "wide_deap"}, "did you mean 'wide_deep'"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"model": {"name": "lr", "optimizer": {"alpha": 0.0}}}, "alpha"),
        ({"threads": 0}, "threads"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(TrainConfig, values)
