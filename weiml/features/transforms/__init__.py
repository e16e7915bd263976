"""Transforms of columns: fitted on data in parts, the same code offline and online."""

from __future__ import annotations

from weiml.features.transforms.base import Accumulator, Fitted, Transform, fit_tables
from weiml.features.transforms.cdf import CDF
from weiml.features.transforms.chain import Chain, Together
from weiml.features.transforms.distribution import Distribution
from weiml.features.transforms.elementwise import Clip, Log1p, Powers, SignedLog, Sqrt, Square
from weiml.features.transforms.missing import Fill, MissingIndicator
from weiml.features.transforms.quantiles import QuantileSketch, Refinement
from weiml.features.transforms.registry import (
    TRANSFORMS,
    fitted_from_mapping,
    load_fitted,
    register,
    transform_from_mapping,
)
from weiml.features.transforms.scaling import MaxNorm, MinMax, Standard

__all__ = [
    "CDF",
    "TRANSFORMS",
    "Accumulator",
    "Chain",
    "Clip",
    "Distribution",
    "Fill",
    "Fitted",
    "Log1p",
    "MaxNorm",
    "MinMax",
    "MissingIndicator",
    "Powers",
    "QuantileSketch",
    "Refinement",
    "SignedLog",
    "Sqrt",
    "Square",
    "Standard",
    "Together",
    "Transform",
    "fit_tables",
    "fitted_from_mapping",
    "load_fitted",
    "register",
    "transform_from_mapping",
]
