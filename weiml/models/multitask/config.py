"""What the configurations of networks of several tasks have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

from weiml.config import nearest
from weiml.errors import ConfigError
from weiml.models.deep.config import DeepConfig

__all__ = ["MultiTaskConfig"]


@dataclass(frozen=True, kw_only=True)
class MultiTaskConfig(DeepConfig):
    """The tasks, what each counts, and the network of each on top of what they share."""

    tasks: tuple[str, ...] = ()
    """A name for each column of the labels, in order. NaN in a column: the label is missing, and
    the example teaches that task nothing."""
    main_task: str = ""
    """The task that examples are ranked by and that decides on the best epoch; "": the first."""
    task_weights: tuple[float, ...] = ()
    """What each task's loss is multiplied by in training; (): 1 each. The losses that are reported
    are the plain sum over tasks."""
    tower: tuple[int, ...] = (64,)
    """Hidden sizes of each task's own network on top."""
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            raise ConfigError(
                f"model {self.name!r} learns several labels: tasks must name the label columns in "
                'order, such as tasks = ["click", "like"]'
            )
        if len(set(self.tasks)) < len(self.tasks) or not all(self.tasks):
            raise ConfigError(f"tasks must have names that differ, got {self.tasks}")
        if self.main_task and self.main_task not in self.tasks:
            known = nearest(self.main_task, self.tasks)
            raise ConfigError(f"main_task: {self.main_task!r} is no task{known}")
        if self.task:
            raise ConfigError(
                f"task = {self.task} chooses the label of models with one; set main_task to a name"
            )
        self._check_sizes()

    def _check_sizes(self) -> None:
        weights = self.task_weights
        if weights and len(weights) != len(self.tasks):
            raise ConfigError(f"task_weights must be one for each of {self.tasks}, got {weights}")
        if not all(weight >= 0 and math.isfinite(weight) for weight in weights):
            raise ConfigError(f"task_weights must not be negative, got {weights}")
        if any(size < 1 for size in self.tower):
            raise ConfigError(f"tower sizes must be at least 1, got {self.tower}")
