"""Networks that predict several labels of an example at once. Importing this loads torch."""

from __future__ import annotations

from weiml.models.multitask.base import MultiTaskModel
from weiml.models.multitask.config import MultiTaskConfig
from weiml.models.multitask.esmm import ESMM, ESMMConfig
from weiml.models.multitask.mmoe import MMoE, MMoEConfig
from weiml.models.multitask.ple import PLE, PLEConfig
from weiml.models.multitask.shared_bottom import SharedBottom, SharedBottomConfig

__all__ = [
    "ESMM",
    "PLE",
    "ESMMConfig",
    "MMoE",
    "MMoEConfig",
    "MultiTaskConfig",
    "MultiTaskModel",
    "PLEConfig",
    "SharedBottom",
    "SharedBottomConfig",
]
