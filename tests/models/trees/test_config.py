"""The configuration is checked, and says the same to LightGBM."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.models.trees import GBDTConfig


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("rounds", 0),
        ("num_leaves", 1),
        ("max_bin", 70_000),
        ("feature_fraction", 0.0),
        ("bagging_fraction", 1.5),
        ("learning_rate", 0.0),
        ("lambda_l2", -1.0),
        ("seed", -1),
        ("seed", 2**31),
        ("min_data_per_group", 0),
        ("num_workers", 2),
    ],
)
def test_wrong_values_name_their_knob(knob: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=knob):
        GBDTConfig(**{knob: value})


def test_bagging_is_off_without_a_fraction() -> None:
    assert GBDTConfig().parameters()["bagging_freq"] == 0
    assert GBDTConfig(bagging_fraction=0.5, bagging_freq=3).parameters()["bagging_freq"] == 3


def test_later_segments_draw_by_other_seeds() -> None:
    seeds = {GBDTConfig().parameters(done)["seed"] for done in (0, 10, 20)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_recipe_of_the_repository_is_read(root: Path) -> None:
    tree = tomllib.loads((root / "configs/models/gbdt.toml").read_text())["model"]
    assert tree.pop("name") == "gbdt"
    assert from_mapping(GBDTConfig, tree).rounds > 1
