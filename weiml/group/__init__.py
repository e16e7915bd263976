"""Groups of workers that compute in step and average arrays: in process, or Ray actors on gloo."""

from __future__ import annotations

from weiml.group.base import Group, WorkerContext, rank_ordered_mean
from weiml.group.local import LocalGroup
from weiml.group.worker_group import WorkerGroup

__all__ = ["Group", "LocalGroup", "WorkerContext", "WorkerGroup", "rank_ordered_mean"]
