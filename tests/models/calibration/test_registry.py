"""Calibrations by name, in configuration files and in saved models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from weiml.config import to_mapping
from weiml.errors import ConfigError, DataError
from weiml.models.calibration import (
    CALIBRATIONS,
    Downsampling,
    FittedIdentity,
    Identity,
    Isotonic,
    calibration_from_mapping,
    fitted_from_mapping,
    register_calibration,
    registry,
)


def test_names_and_parameters() -> None:
    assert calibration_from_mapping({"name": "isotonic", "num_bins": 50}) == Isotonic(num_bins=50)
    for name, calibration in CALIBRATIONS.items():
        made: Any = Downsampling(keep_rate=0.1) if name == "downsampling" else calibration()
        assert made.name == name
        assert calibration_from_mapping(to_mapping(made)) == made


def test_wrong_names_and_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown calibration 'plat'; did you mean 'platt'"):
        calibration_from_mapping({"name": "plat"})
    with pytest.raises(ConfigError, match="calibration isotonic: unknown key 'bin'"):
        calibration_from_mapping({"name": "isotonic", "bin": 3})
    with pytest.raises(ConfigError, match="missing key 'keep_rate'"):
        calibration_from_mapping({"name": "downsampling"})


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"name": "scaling"},
        {"name": "scaling", "state": {"slope": 1}},
        {"name": "scaling", "state": {"slope": "x", "intercept": 0}},
        {"name": "scaling", "state": {"slope": float("nan"), "intercept": 0}},
        {"name": "beta", "state": {"a": 1, "b": float("inf"), "c": 0}},
        {"name": "isotonic", "state": {"scores": [0.1], "probabilities": [0.1, 0.2]}},
        {"name": "isotonic", "state": 3},
        {"name": "tasks", "state": {"tasks": [{}]}},
    ],
)
def test_damaged_states_are_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="damaged"):
        fitted_from_mapping(damaged)


def test_unknown_states_are_refused() -> None:
    with pytest.raises(DataError, match="unknown fitted calibration 'scalin'; did you mean"):
        fitted_from_mapping({"name": "scalin", "state": {}})


def test_a_calibration_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class FittedMine(FittedIdentity):
        name: ClassVar[str] = "fitted_mine"

    @dataclass(frozen=True, kw_only=True)
    class Mine(Identity):
        name: Literal["mine"] = "mine"  # type: ignore[assignment]

        def _fit(self, *columns: np.ndarray) -> FittedMine:
            return FittedMine()

    for known in ("CALIBRATIONS", "_FITTED"):
        monkeypatch.setattr(registry, known, dict(getattr(registry, known)))
    register_calibration("mine", Mine, FittedMine)
    register_calibration("mine", Mine, FittedMine)
    mine = calibration_from_mapping({"name": "mine"})
    fitted = mine.fit(np.empty(0), np.empty(0))
    assert type(fitted_from_mapping(fitted.to_mapping())) is FittedMine
    with pytest.raises(ConfigError, match="registered already"):
        register_calibration("platt", Mine, FittedMine)
