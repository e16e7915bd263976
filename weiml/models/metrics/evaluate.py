"""All metrics of one model on examples at hand, for one label or for several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from weiml.errors import DataError
from weiml.models.metrics.accumulator import MetricsAccumulator

__all__ = ["TaskMetricsAccumulator", "evaluate_scores", "evaluate_tasks"]


def evaluate_scores(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    *,
    k: int = 10,
    standard_errors: bool = True,
) -> dict[str, float]:
    """Return every metric that models are compared by, under the names used in reports.

    See `MetricsAccumulator.estimates`; each NAME comes with NAME_se unless `standard_errors` is
    off. Metrics of groups are left out where there are no groups. Labels (n,) or (n, 1), NaN where
    missing; scores are probabilities.
    """
    seen = MetricsAccumulator(k=k)
    seen.add(labels, scores, groups if np.any(groups) else None, weights)
    return seen.result(standard_errors=standard_errors)


def evaluate_tasks(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    *,
    tasks: Sequence[str],
    k: int = 10,
    standard_errors: bool = True,
) -> dict[str, dict[str, float]]:
    """Return `evaluate_scores` of each column of labels and scores (n, T), by the tasks' names."""
    seen = TaskMetricsAccumulator(tasks, k=k)
    seen.add(labels, scores, groups, weights)
    return seen.result(standard_errors=standard_errors)


class TaskMetricsAccumulator:
    """One `MetricsAccumulator` a task, for labels and scores of several columns.

    Args:
        tasks: names of the columns.
        settings: of each `MetricsAccumulator`.

    Raises:
        DataError: no task, or two of one name.
    """

    def __init__(self, tasks: Sequence[str], **settings: Any) -> None:
        if not tasks or len(set(tasks)) < len(tasks):
            raise DataError(f"tasks must be distinct names, at least one, got {list(tasks)}")
        self.tasks = {name: MetricsAccumulator(**settings) for name in tasks}
        """The accumulator of each task."""

    def add(
        self,
        labels: np.ndarray,
        scores: np.ndarray,
        groups: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Add examples; a label NaN leaves an example out of that task alone.

        Args:
            labels: (n, T), in [0, 1] or NaN.
            scores: probabilities (n, T).
            groups: integers (n,).
            weights: (n,), or (n, T) for each task its own.

        Raises:
            DataError: a shape does not fit, or a value is out of its range.
        """
        wanted = (len(labels), len(self.tasks))
        if np.shape(labels) != wanted or np.shape(scores) != wanted:
            raise DataError(
                f"labels and scores must be (n, {wanted[1]}) for the tasks {list(self.tasks)}, "
                f"got {np.shape(labels)} and {np.shape(scores)}"
            )
        for t, seen in enumerate(self.tasks.values()):
            own = weights if weights is None or np.ndim(weights) == 1 else weights[:, t]
            seen.add(labels[:, t], scores[:, t], groups, own)

    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same tasks and settings has seen."""
        if list(self.tasks) != list(other.tasks):
            raise DataError(f"tasks {list(self.tasks)} do not merge with tasks {list(other.tasks)}")
        for name, seen in self.tasks.items():
            seen.merge(other.tasks[name])

    def result(self, *, standard_errors: bool = True) -> dict[str, dict[str, float]]:
        """Return `MetricsAccumulator.result` of each task by its name."""
        return {
            name: seen.result(standard_errors=standard_errors) for name, seen in self.tasks.items()
        }
