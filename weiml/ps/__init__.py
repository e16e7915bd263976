"""WeiPS: sparse tables and dense vectors on shards, trained by many workers.

Read `base` for the contract, `shard` for what a server does, `client` for how requests travel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weiml.ps.base import Client, GroupConfig, ParameterServer, Ticket
from weiml.ps.dedup import sum_by_key, unique_keys
from weiml.ps.delta import Cut, Delta
from weiml.ps.embedded import EmbeddedParameterServer
from weiml.ps.functions.registry import elementwise, get_function, update_function
from weiml.ps.index import KeyIndex
from weiml.ps.kernels import ftrl_step, ftrl_weight
from weiml.ps.optimizers import (
    ASGD,
    FTRL,
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    GroupFTRL,
    MatrixOptimizer,
    Maximum,
    Momentum,
    Optimizer,
    OptimizerConfig,
    RMSProp,
    optimizer_from_mapping,
    register_optimizer,
)
from weiml.ps.partition import Partition
from weiml.ps.tables.admission import AdmissionConfig
from weiml.ps.tables.expiry import ExpiryConfig
from weiml.ps.tables.sparse import SparseTable, TableConfig
from weiml.ps.wire import WireConfig

if TYPE_CHECKING:
    from weiml.ps.processes.ray_server import RayParameterServer, list_groups

__all__ = [
    "ASGD",
    "FTRL",
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdmissionConfig",
    "Client",
    "Cut",
    "Delta",
    "EmbeddedParameterServer",
    "ExpiryConfig",
    "GroupConfig",
    "GroupFTRL",
    "KeyIndex",
    "MatrixOptimizer",
    "Maximum",
    "Momentum",
    "Optimizer",
    "OptimizerConfig",
    "ParameterServer",
    "Partition",
    "RMSProp",
    "RayParameterServer",
    "SparseTable",
    "TableConfig",
    "Ticket",
    "WireConfig",
    "elementwise",
    "ftrl_step",
    "ftrl_weight",
    "get_function",
    "list_groups",
    "optimizer_from_mapping",
    "register_optimizer",
    "sum_by_key",
    "unique_keys",
    "update_function",
]


def __getattr__(name: str) -> Any:
    # Ray is imported only when its transport is asked for.
    if name in ("RayParameterServer", "list_groups"):
        from weiml.ps.processes import ray_server

        return getattr(ray_server, name)
    raise AttributeError(f"module 'weiml.ps' has no attribute {name!r}")
