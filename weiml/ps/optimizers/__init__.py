"""Optimizers as functions of rows: one file each, `base` for the contract, `registry` by name."""

from __future__ import annotations

from weiml.ps.optimizers.adagrad import Adagrad
from weiml.ps.optimizers.adam import Adam
from weiml.ps.optimizers.adamw import AdamW
from weiml.ps.optimizers.asgd import ASGD
from weiml.ps.optimizers.base import MatrixOptimizer, Optimizer
from weiml.ps.optimizers.ftrl import FTRL
from weiml.ps.optimizers.group_ftrl import GroupFTRL
from weiml.ps.optimizers.maximum import Maximum
from weiml.ps.optimizers.momentum import Momentum
from weiml.ps.optimizers.registry import (
    OPTIMIZERS,
    OptimizerConfig,
    optimizer_from_mapping,
    register_optimizer,
)
from weiml.ps.optimizers.rmsprop import RMSProp
from weiml.ps.optimizers.sgd import SGD

__all__ = [
    "ASGD",
    "FTRL",
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "GroupFTRL",
    "MatrixOptimizer",
    "Maximum",
    "Momentum",
    "Optimizer",
    "OptimizerConfig",
    "RMSProp",
    "optimizer_from_mapping",
    "register_optimizer",
]
