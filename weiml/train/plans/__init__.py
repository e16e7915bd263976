"""Plans: a model trained in stages that are declared once, cached, and gone on with."""

from __future__ import annotations

from weiml.train.plans.config import PARTS, DataConfig, Plan, Shares, TestConfig
from weiml.train.plans.run import PlanResult, run_plan
from weiml.train.plans.store import Stage, StageStore

__all__ = [
    "PARTS",
    "DataConfig",
    "Plan",
    "PlanResult",
    "Shares",
    "Stage",
    "StageStore",
    "TestConfig",
    "run_plan",
]
