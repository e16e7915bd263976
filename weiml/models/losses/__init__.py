"""Losses with gradients in closed form: one file each, `base` for the contract."""

from __future__ import annotations

from weiml.models.losses.base import GroupedLoss, Loss, LossResult, PointwiseLoss
from weiml.models.losses.bpr import BPR
from weiml.models.losses.cross_entropy import CrossEntropy
from weiml.models.losses.fnc import FNC
from weiml.models.losses.fnw import FNW
from weiml.models.losses.focal import Focal
from weiml.models.losses.hinge import Hinge
from weiml.models.losses.lambdarank import LambdaRank
from weiml.models.losses.listwise import Listwise
from weiml.models.losses.ranknet import RankNet
from weiml.models.losses.registry import LOSSES, LossConfig, loss_from_mapping, register_loss

__all__ = [
    "BPR",
    "FNC",
    "FNW",
    "LOSSES",
    "CrossEntropy",
    "Focal",
    "GroupedLoss",
    "Hinge",
    "LambdaRank",
    "Listwise",
    "Loss",
    "LossConfig",
    "LossResult",
    "PointwiseLoss",
    "RankNet",
    "loss_from_mapping",
    "register_loss",
]
