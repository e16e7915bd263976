"""What an example is: typed features, the columnar batch, and the encoder between the two."""

from __future__ import annotations

from weiml.features.batch import Batch
from weiml.features.crosses import CrossBlock, cross_blocks, with_crosses
from weiml.features.encoder import FeatureEncoder
from weiml.features.names import Collisions, KeyNames, count_collisions, feature_ids
from weiml.features.spec import FeatureSpec
from weiml.features.types import (
    Binary,
    Categorical,
    Continuous,
    Cross,
    CrossGroups,
    Feature,
    Sequence,
    SparseBinary,
    SparseContinuous,
    Text,
)

__all__ = [
    "Batch",
    "Binary",
    "Categorical",
    "Collisions",
    "Continuous",
    "Cross",
    "CrossBlock",
    "CrossGroups",
    "Feature",
    "FeatureEncoder",
    "FeatureSpec",
    "KeyNames",
    "Sequence",
    "SparseBinary",
    "SparseContinuous",
    "Text",
    "count_collisions",
    "cross_blocks",
    "feature_ids",
    "with_crosses",
]
