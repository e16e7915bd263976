"""Networks that read an example's history event by event. Importing this loads torch."""

from __future__ import annotations

from weiml.models.sequence.bst import BST, BSTConfig
from weiml.models.sequence.config import SequenceConfig
from weiml.models.sequence.dien import DIEN, DIENConfig
from weiml.models.sequence.din import DIN, DINConfig
from weiml.models.sequence.histories import Histories, History

__all__ = [
    "BST",
    "DIEN",
    "DIN",
    "BSTConfig",
    "DIENConfig",
    "DINConfig",
    "Histories",
    "History",
    "SequenceConfig",
]
