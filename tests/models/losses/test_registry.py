"""Losses by name, as configuration files have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from tests.models.losses.conftest import LOSSES as INSTANCES
from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError
from weiml.models.losses import (
    LOSSES,
    CrossEntropy,
    Focal,
    Loss,
    LossConfig,
    loss_from_mapping,
    register_loss,
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    loss: LossConfig


def test_names_and_parameters() -> None:
    assert loss_from_mapping({"name": "focal", "gamma": 2}) == Focal(gamma=2.0)
    assert from_mapping(Settings, {}, overrides=['loss={name="focal", gamma=3}']).loss == Focal(
        gamma=3.0
    )
    for loss in INSTANCES:
        assert loss_from_mapping(to_mapping(loss)) == loss
    assert {type(loss) for loss in INSTANCES} == set(LOSSES.values())


def test_wrong_names_and_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown loss 'focl'; did you mean 'focal'"):
        loss_from_mapping({"name": "focl"})
    with pytest.raises(ConfigError, match="loss focal: unknown key 'gama'; did you mean 'gamma'"):
        loss_from_mapping({"name": "focal", "gama": 2})
    with pytest.raises(ConfigError, match="unknown loss None"):
        loss_from_mapping({})


def test_a_loss_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(CrossEntropy):
        name: Literal["mine"] = "mine"  # type: ignore[assignment]

    known: dict[str, type[Loss]] = dict(LOSSES)
    monkeypatch.setattr("weiml.models.losses.registry.LOSSES", known)
    register_loss("mine", Mine)
    register_loss("mine", Mine)
    assert loss_from_mapping({"name": "mine", "pos_weight": 2}) == Mine(pos_weight=2.0)
    with pytest.raises(ConfigError, match="registered already"):
        register_loss("focal", Mine)
