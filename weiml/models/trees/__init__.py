"""Gradient-boosted trees: grown by LightGBM on a group of workers, scored by a compiled walk."""

from __future__ import annotations

from weiml.models.trees.columns import SlotVocabulary, TreeColumns
from weiml.models.trees.config import GBDTConfig
from weiml.models.trees.forest import Forest
from weiml.models.trees.gbdt_lr import GBDTLogisticRegression, GBDTLogisticRegressionConfig
from weiml.models.trees.leaves import LEAVES, LeafEncoder
from weiml.models.trees.model import GBDT
from weiml.models.trees.text import TreeText
from weiml.models.trees.trainer import GBDTProgress, GBDTResult, GBDTTrainer

__all__ = [
    "GBDT",
    "LEAVES",
    "Forest",
    "GBDTConfig",
    "GBDTLogisticRegression",
    "GBDTLogisticRegressionConfig",
    "GBDTProgress",
    "GBDTResult",
    "GBDTTrainer",
    "LeafEncoder",
    "SlotVocabulary",
    "TreeColumns",
    "TreeText",
]
