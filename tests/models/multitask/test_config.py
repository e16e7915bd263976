"""Configurations of several tasks: what does not fit is named."""

from __future__ import annotations

from typing import Any

import pytest

from weiml.errors import ConfigError
from weiml.models import ESMMConfig, MMoEConfig, PLEConfig, SharedBottomConfig


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"tasks": ()}, "'shared_bottom' learns several labels: tasks must name"),
        ({"tasks": ("click", "click")}, "names that differ"),
        ({"tasks": ("click", "")}, "names that differ"),
        ({"main_task": "cliik"}, "main_task: 'cliik' is no task.*click"),
        ({"task": 1}, "set main_task"),
        ({"task_weights": (1.0,)}, "task_weights must be one for each"),
        ({"task_weights": (1.0, -1.0)}, "task_weights must not be negative"),
        ({"task_weights": (1.0, float("nan"))}, "task_weights must not be negative"),
        ({"tower": (0,)}, "tower sizes must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SharedBottomConfig(**{"tasks": ("click", "buy"), **knobs})


def test_counts_are_at_least_one() -> None:
    tasks = ("click", "buy")
    with pytest.raises(ConfigError, match="experts must be at least 1, got 0"):
        MMoEConfig(tasks=tasks, experts=0)
    for knob in ("levels", "shared_experts", "task_experts"):
        with pytest.raises(ConfigError, match=f"{knob} must be at least 1, got 0"):
            PLEConfig(tasks=tasks, **{knob: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tasks of a chain are at least 2"):
        ESMMConfig(tasks=("click",))
