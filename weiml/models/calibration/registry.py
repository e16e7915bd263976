"""Calibrations by name: in configuration files, and fitted ones in saved models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from weiml.config import from_mapping, nearest
from weiml.errors import ConfigError, DataError
from weiml.models.calibration.base import Calibration, FittedCalibration, TaskCalibrations
from weiml.models.calibration.beta import Beta, FittedBeta
from weiml.models.calibration.downsampling import Downsampling
from weiml.models.calibration.identity import FittedIdentity, Identity
from weiml.models.calibration.isotonic import FittedIsotonic, Isotonic
from weiml.models.calibration.platt import Platt
from weiml.models.calibration.scaling import FittedScaling
from weiml.models.calibration.temperature import Temperature

__all__ = [
    "CALIBRATIONS",
    "CalibrationConfig",
    "calibration_from_mapping",
    "fitted_from_mapping",
    "register_calibration",
]

CalibrationConfig: TypeAlias = Isotonic | Platt | Temperature | Beta | Downsampling | Identity
"""The calibrations that a configuration file can name; `name` tells them apart."""

CALIBRATIONS: dict[str, type[Calibration]] = {
    "isotonic": Isotonic,
    "platt": Platt,
    "temperature": Temperature,
    "beta": Beta,
    "downsampling": Downsampling,
    "identity": Identity,
}
"""All calibrations, registered ones included."""

_FITTED: dict[str, type[FittedCalibration]] = {
    fitted.name: fitted
    for fitted in (FittedIsotonic, FittedScaling, FittedBeta, FittedIdentity, TaskCalibrations)
}


def register_calibration(
    name: str, calibration: type[Calibration], fitted: type[FittedCalibration]
) -> None:
    """Make a frozen dataclass with a field ``name``, and what fitting it gives, known.

    Every process must register it.

    Raises:
        ConfigError: another calibration has that name, or another fitted one the other.
    """
    known = CALIBRATIONS.setdefault(name, calibration), _FITTED.setdefault(fitted.name, fitted)
    if known != (calibration, fitted):
        raise ConfigError(f"calibration {name!r} is registered already, as {known!r}")


def calibration_from_mapping(mapping: Mapping[str, Any]) -> Calibration:
    """Build the calibration that ``{"name": "isotonic", "num_bins": 50}`` describes.

    Raises:
        ConfigError: the name or a parameter is unknown, or a value does not fit.
    """
    name = mapping.get("name")
    if name not in CALIBRATIONS:
        raise ConfigError(f"unknown calibration {name!r}{nearest(str(name), CALIBRATIONS)}")
    return from_mapping(CALIBRATIONS[name], mapping, where=f"calibration {name}")


def fitted_from_mapping(mapping: Mapping[str, Any]) -> FittedCalibration:
    """Make a fitted calibration of what `FittedCalibration.to_mapping` gave.

    Raises:
        DataError: the name is unknown, or the state is damaged.
    """
    try:
        name, state = mapping["name"], mapping["state"]
        if name in _FITTED:
            return _FITTED[name].from_state(state)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the saved calibration is damaged: {error!r} in {mapping!r}") from None
    raise DataError(f"unknown fitted calibration {name!r}{nearest(str(name), _FITTED)}")
