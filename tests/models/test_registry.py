"""Names lead to models, whose modules are loaded when they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.models.test_checks import APART, SMALL
from tests.structure.test_imports import modules_after
from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.models import MODELS, LogisticRegression, ModelConfig, model_class, model_config
from weiml.models.linear import LogisticRegressionConfig


def test_every_name_leads_to_a_model_of_that_name() -> None:
    for name in list(MODELS):
        cls = model_class(name)
        assert cls.name == name
        if name not in APART:  # the others with what they cannot do without
            table = {"name": name, **SMALL[name]}
            assert type(model_config(table)) is cls.config_class


def test_every_model_has_a_page_with_its_name(root: Path) -> None:
    overview = (root / "docs" / "models.md").read_text()
    for name in MODELS:
        page = root / "docs" / "models" / f"{name}.md"
        assert page.is_file(), f"{page} is missing"
        assert f"`{name}`" in page.read_text().splitlines()[0], f"{page} does not begin with {name}"
        assert f"(models/{name}.md)" in overview, f"docs/models.md does not link {page.name}"


def test_listing_models_loads_no_torch() -> None:
    assert "torch" not in modules_after("import weiml.models; sorted(weiml.models.MODELS)")


def test_configurations_are_chosen_by_name() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Run:
        model: ModelConfig

    run = from_mapping(Run, {"model": {"name": "lr", "optimizer": {"alpha": 0.5}}})
    assert isinstance(run.model, LogisticRegressionConfig)
    assert run.model.optimizer.alpha == 0.5
    assert from_mapping(Run, {"model": "lr"}).model == LogisticRegressionConfig()
    with pytest.raises(ConfigError, match="model: unknown key 'optimiser'"):
        from_mapping(Run, {"model": {"name": "lr", "optimiser": 1}})
    with pytest.raises(ConfigError, match="unknown model 'lrr'; did you mean 'lr'"):
        from_mapping(Run, {"model": {"name": "lrr"}})
    with pytest.raises(ConfigError, match="a table with the model's name"):
        from_mapping(Run, {"model": {"optimizer": {}}})


def test_names_are_given_once() -> None:
    @dataclass(frozen=True, kw_only=True)
    class OwnConfig(LogisticRegressionConfig):
        name: Literal["own"] = "own"  # type: ignore[assignment]

    class Own(LogisticRegression):
        name = "own"
        config_class = OwnConfig

    from weiml.models import register_model

    try:
        assert register_model(Own) is Own
        assert register_model(Own) is Own
        assert model_class("own") is Own
        with pytest.raises(ConfigError, match="registered already"):
            register_model(type("Other", (Own,), {}))
    finally:
        MODELS.pop("own", None)
