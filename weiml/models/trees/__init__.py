"""Gradient-boosted trees: grown by LightGBM on a group of workers, scored by a compiled walk."""

from __future__ import annotations

from weiml.models.trees.columns import SlotVocabulary, TreeColumns
from weiml.models.trees.config import GBDTConfig
from weiml.models.trees.forest import Forest
from weiml.models.trees.model import GBDT
from weiml.models.trees.text import TreeText
from weiml.models.trees.trainer import GBDTProgress, GBDTResult, GBDTTrainer

__all__ = [
    "GBDT",
    "Forest",
    "GBDTConfig",
    "GBDTProgress",
    "GBDTResult",
    "GBDTTrainer",
    "SlotVocabulary",
    "TreeColumns",
    "TreeText",
]
