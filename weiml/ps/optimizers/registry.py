"""The optimizers by name: what configuration files can say, and how another rule joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from weiml.config import from_mapping, nearest
from weiml.errors import ConfigError
from weiml.ps.optimizers.adagrad import Adagrad
from weiml.ps.optimizers.adam import Adam
from weiml.ps.optimizers.adamw import AdamW
from weiml.ps.optimizers.asgd import ASGD
from weiml.ps.optimizers.base import Optimizer
from weiml.ps.optimizers.ftrl import FTRL
from weiml.ps.optimizers.group_ftrl import GroupFTRL
from weiml.ps.optimizers.maximum import Maximum
from weiml.ps.optimizers.momentum import Momentum
from weiml.ps.optimizers.rmsprop import RMSProp
from weiml.ps.optimizers.sgd import SGD

__all__ = ["OPTIMIZERS", "OptimizerConfig", "optimizer_from_mapping", "register_optimizer"]

OptimizerConfig: TypeAlias = (
    FTRL | Adagrad | SGD | Momentum | RMSProp | Adam | AdamW | GroupFTRL | ASGD | Maximum
)
"""The rules that a configuration file can name; `name` tells them apart."""

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "ftrl": FTRL,
    "adagrad": Adagrad,
    "sgd": SGD,
    "momentum": Momentum,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "group_ftrl": GroupFTRL,
    "asgd": ASGD,
    "max": Maximum,
}
"""All rules, registered ones included."""


def register_optimizer(name: str, optimizer: type[Optimizer]) -> None:
    """Make a frozen dataclass with a field ``name`` known; every process must register it.

    Raises:
        ConfigError: another rule has that name.
    """
    if OPTIMIZERS.setdefault(name, optimizer) is not optimizer:
        raise ConfigError(f"optimizer {name!r} is registered already, as {OPTIMIZERS[name]!r}")


def optimizer_from_mapping(mapping: Mapping[str, Any]) -> Optimizer:
    """Build the optimizer that ``{"name": "ftrl", "alpha": 0.1}`` describes.

    Raises:
        ConfigError: the name or a parameter is unknown, or a value does not fit.
    """
    name = mapping.get("name")
    if name not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {name!r}{nearest(str(name), OPTIMIZERS)}")
    return from_mapping(OPTIMIZERS[name], mapping, where=f"optimizer {name}")
