"""Transforms of columns: fitted on data in parts, the same code offline and online."""

from __future__ import annotations

from weiml.features.transforms.base import Accumulator, Fitted, Transform, fit_tables
from weiml.features.transforms.buckets import EqualWidth, QuantileBuckets
from weiml.features.transforms.cdf import CDF
from weiml.features.transforms.chain import Chain, Together
from weiml.features.transforms.distribution import Distribution
from weiml.features.transforms.elementwise import Clip, Log1p, Powers, SignedLog, Sqrt, Square
from weiml.features.transforms.leaves import AdaBoostLeaves, GBDTLeaves, RandomForestLeaves
from weiml.features.transforms.mdl import MDL
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
    "MDL",
    "TRANSFORMS",
    "Accumulator",
    "AdaBoostLeaves",
    "Chain",
    "Clip",
    "Distribution",
    "EqualWidth",
    "Fill",
    "Fitted",
    "GBDTLeaves",
    "Log1p",
    "MaxNorm",
    "MinMax",
    "MissingIndicator",
    "Powers",
    "QuantileBuckets",
    "QuantileSketch",
    "RandomForestLeaves",
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
