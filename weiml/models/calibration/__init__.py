"""Calibrations: maps from scores to true probabilities; one file each, `base` for the contract."""

from __future__ import annotations

from weiml.models.calibration.base import Calibration, FittedCalibration, TaskCalibrations
from weiml.models.calibration.beta import Beta, FittedBeta
from weiml.models.calibration.downsampling import Downsampling
from weiml.models.calibration.identity import FittedIdentity, Identity
from weiml.models.calibration.isotonic import FittedIsotonic, Isotonic
from weiml.models.calibration.platt import Platt
from weiml.models.calibration.registry import (
    CALIBRATIONS,
    CalibrationConfig,
    calibration_from_mapping,
    fitted_from_mapping,
    register_calibration,
)
from weiml.models.calibration.scaling import FittedScaling
from weiml.models.calibration.temperature import Temperature

__all__ = [
    "CALIBRATIONS",
    "Beta",
    "Calibration",
    "CalibrationConfig",
    "Downsampling",
    "FittedBeta",
    "FittedCalibration",
    "FittedIdentity",
    "FittedIsotonic",
    "FittedScaling",
    "Identity",
    "Isotonic",
    "Platt",
    "TaskCalibrations",
    "Temperature",
    "calibration_from_mapping",
    "fitted_from_mapping",
    "register_calibration",
]
