"""Search over configurations: Optuna's sampler on Ray Tune, remembered in a journal.

What needs Ray or Optuna is imported when first asked for: a trial's process needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weiml.search.base import (
    OBJECTIVES,
    AshaConfig,
    Objective,
    SearchConfig,
    build_objective,
    register_objective,
)
from weiml.search.objectives import Bowl, TrainValidation
from weiml.search.plan import SearchPlan, load_plan
from weiml.search.result import SearchResult, TrialRecord, TrialState
from weiml.search.space import Choice, Float, Int, Space

if TYPE_CHECKING:
    from weiml.search.journal import Journal
    from weiml.search.run import search

__all__ = [
    "OBJECTIVES",
    "AshaConfig",
    "Bowl",
    "Choice",
    "Float",
    "Int",
    "Journal",
    "Objective",
    "SearchConfig",
    "SearchPlan",
    "SearchResult",
    "Space",
    "TrainValidation",
    "TrialRecord",
    "TrialState",
    "build_objective",
    "load_plan",
    "register_objective",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "search":
        from weiml.search.run import search

        return search
    if name == "Journal":
        from weiml.search.journal import Journal

        return Journal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
