"""Groups of workers that compute in step and average arrays: in process, or Ray actors on gloo."""

from __future__ import annotations

from weiml.group.base import Collective, Group, WorkerContext
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
from weiml.group.worker_group import WorkerGroup

__all__ = [
    "AllGather",
    "AllReduce",
    "Barrier",
    "Broadcast",
    "Collective",
    "Group",
    "Handle",
    "LocalGroup",
    "Start",
    "WorkerContext",
    "WorkerGroup",
    "WorkerGroupConfig",
    "rank_ordered_mean",
]
