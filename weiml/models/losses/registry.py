"""The losses by name: what configuration files can say, and how another loss joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from weiml.config import from_mapping, nearest
from weiml.errors import ConfigError
from weiml.models.losses.base import Loss
from weiml.models.losses.bpr import BPR
from weiml.models.losses.cross_entropy import CrossEntropy
from weiml.models.losses.fnc import FNC
from weiml.models.losses.fnw import FNW
from weiml.models.losses.focal import Focal
from weiml.models.losses.hinge import Hinge
from weiml.models.losses.lambdarank import LambdaRank
from weiml.models.losses.listwise import Listwise
from weiml.models.losses.ranknet import RankNet

__all__ = ["LOSSES", "LossConfig", "loss_from_mapping", "register_loss"]

LossConfig: TypeAlias = (
    CrossEntropy | Focal | Hinge | RankNet | BPR | Listwise | LambdaRank | FNW | FNC
)
"""The losses that a configuration file can name; `name` tells them apart."""

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "hinge": Hinge,
    "ranknet": RankNet,
    "bpr": BPR,
    "listwise": Listwise,
    "lambdarank": LambdaRank,
    "fnw": FNW,
    "fnc": FNC,
}
"""All losses, registered ones included."""


def register_loss(name: str, loss: type[Loss]) -> None:
    """Make a frozen dataclass with a field ``name`` known; every process must register it.

    Raises:
        ConfigError: another loss has that name.
    """
    if LOSSES.setdefault(name, loss) is not loss:
        raise ConfigError(f"loss {name!r} is registered already, as {LOSSES[name]!r}")


def loss_from_mapping(mapping: Mapping[str, Any]) -> Loss:
    """Build the loss that ``{"name": "focal", "gamma": 2}`` describes.

    Raises:
        ConfigError: the name or a parameter is unknown, or a value does not fit.
    """
    name = mapping.get("name")
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}{nearest(str(name), LOSSES)}")
    return from_mapping(LOSSES[name], mapping, where=f"loss {name}")
