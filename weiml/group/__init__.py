"""Groups of workers that compute in step and average arrays: in process, on gloo, on NCCL."""

from __future__ import annotations

from weiml.group.base import Collective, Group, WorkerContext
from weiml.group.check import CheckResult, check_group
from weiml.group.collectives import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Handle,
    Start,
    rank_ordered_mean,
)
from weiml.group.config import WorkerGroupConfig
from weiml.group.local import LocalGroup
from weiml.group.member import WorkerInfo
from weiml.group.placement import gpus_of, room_for
from weiml.group.ray_train import run_on_ray_train
from weiml.group.supervisor import GangState, Supervisor
from weiml.group.worker_group import WorkerGroup

__all__ = [
    "AllGather",
    "AllReduce",
    "Barrier",
    "Broadcast",
    "CheckResult",
    "Collective",
    "GangState",
    "Group",
    "Handle",
    "LocalGroup",
    "Start",
    "Supervisor",
    "WorkerContext",
    "WorkerGroup",
    "WorkerGroupConfig",
    "WorkerInfo",
    "check_group",
    "gpus_of",
    "rank_ordered_mean",
    "room_for",
    "run_on_ray_train",
]
