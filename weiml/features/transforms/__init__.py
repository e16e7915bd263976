"""Transforms of columns: fitted on data in parts, the same code offline and online."""

from __future__ import annotations

from weiml.features.transforms.base import Accumulator, Fitted, Transform, fit_tables
from weiml.features.transforms.buckets import EqualWidth, QuantileBuckets
from weiml.features.transforms.categories import Hashing, Vocabulary
from weiml.features.transforms.cdf import CDF
from weiml.features.transforms.chain import Chain, Together
from weiml.features.transforms.distribution import Distribution
from weiml.features.transforms.elementwise import Clip, Log1p, Powers, SignedLog, Sqrt, Square
from weiml.features.transforms.geo import GeoCell, parent_cell
from weiml.features.transforms.leaves import AdaBoostLeaves, GBDTLeaves, RandomForestLeaves
from weiml.features.transforms.list_pool import ListPool
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
from weiml.features.transforms.target_mean import (
    OutOfFoldMeans,
    TargetMean,
    fit_transform_out_of_fold,
)
from weiml.features.transforms.text import CharNGrams, Tokens, register_tokenizer
from weiml.features.transforms.time_parts import TimeParts

__all__ = [
    "CDF",
    "MDL",
    "TRANSFORMS",
    "Accumulator",
    "AdaBoostLeaves",
    "Chain",
    "CharNGrams",
    "Clip",
    "Distribution",
    "EqualWidth",
    "Fill",
    "Fitted",
    "GBDTLeaves",
    "GeoCell",
    "Hashing",
    "ListPool",
    "Log1p",
    "MaxNorm",
    "MinMax",
    "MissingIndicator",
    "OutOfFoldMeans",
    "Powers",
    "QuantileBuckets",
    "QuantileSketch",
    "RandomForestLeaves",
    "Refinement",
    "SignedLog",
    "Sqrt",
    "Square",
    "Standard",
    "TargetMean",
    "TimeParts",
    "Together",
    "Tokens",
    "Transform",
    "Vocabulary",
    "fit_tables",
    "fit_transform_out_of_fold",
    "fitted_from_mapping",
    "load_fitted",
    "parent_cell",
    "register",
    "register_tokenizer",
    "transform_from_mapping",
]
