"""Optimizers as functions of rows: one file each, `base` for the contract, `registry` by name."""

from weiml.ps.optimizers.adagrad import Adagrad
from weiml.ps.optimizers.base import MatrixOptimizer, Optimizer
from weiml.ps.optimizers.ftrl import FTRL
from weiml.ps.optimizers.registry import (
    OPTIMIZERS,
    OptimizerConfig,
    optimizer_from_mapping,
    register_optimizer,
)
from weiml.ps.optimizers.sgd import SGD

__all__ = [
    "FTRL",
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "MatrixOptimizer",
    "Optimizer",
    "OptimizerConfig",
    "optimizer_from_mapping",
    "register_optimizer",
]
