"""Every recipe and search that is shipped can be read, and searches name knobs of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from weiml.search import TrainValidation, load_plan
from weiml.train import TrainConfig, load_recipe

ROOT = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted((ROOT / "models").glob("*.toml"))
SEARCHED = {
    "deepfm": "movielens_deepfm",
    "feed": "wide_deep",
    "lr": "census_lr",
    "wide_deep": "census_wide_deep",
}
"""A recipe that each search starts from."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read(path: Path) -> None:
    recipe = load_recipe(path)
    if isinstance(recipe, TrainConfig):
        assert recipe.model_config.name in path.read_text()


def test_every_search_is_looked_at() -> None:
    assert {path.stem for path in (ROOT / "search").glob("*.toml")} == set(SEARCHED)


@pytest.mark.parametrize("name", sorted(SEARCHED))
def test_a_search_starts_from_its_recipe(name: str, tmp_path: Path) -> None:
    plan = load_plan(ROOT / f"search/{name}.toml")
    recipe = ROOT / f"models/{SEARCHED[name]}.toml"
    objective = plan.make_objective(train=tmp_path, validation=tmp_path, config=recipe)
    assert isinstance(objective, TrainValidation)
    objective.train_config(plan.parameters.defaults())
    for knob, parameter in plan.parameters.parameters.items():
        ends = parameter.values if hasattr(parameter, "values") else (parameter.low, parameter.high)
        for value in ends:
            objective.train_config({knob: value})
