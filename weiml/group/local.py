"""Logical workers inside the calling process, stepped in turn: no threads, no processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weiml.errors import ClusterError
from weiml.group.base import (
    Collective,
    Group,
    WorkerContext,
    check_num_workers,
    rank_ordered_mean,
)

__all__ = ["LocalGroup"]


class LocalGroup(Group):
    """`num_workers` logical workers, driven in lock step by one loop in rank order."""

    def __init__(self, num_workers: int = 1) -> None:
        check_num_workers(num_workers)
        self.num_workers = num_workers
        self._contexts = [WorkerContext(rank, num_workers) for rank in range(num_workers)]

    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Group.execute`; workers run one after the other."""
        return [function(context, *arguments) for context in self._open()]

    def run(self, function: Callable[..., Collective], *arguments: Any) -> list[Any]:
        """See `Group.run`; each round advances every worker to its next `yield`."""
        generators = [function(context, *arguments) for context in self._open()]
        message: np.ndarray | None = None
        while True:
            arrays: list[np.ndarray | None] = []
            results: list[Any] = []
            for generator in generators:
                try:
                    arrays.append(generator.send(message))
                except StopIteration as stop:
                    results.append(stop.value)
            if not arrays:
                return results
            if results:
                raise ClusterError(
                    f"{len(results)} of {self.num_workers} workers finished while the others wait "
                    "for a mean; every worker must take the same number of steps"
                )
            message = _mean(arrays)

    def shutdown(self) -> None:
        """Forget what the workers kept."""
        self._contexts = []

    def _open(self) -> list[WorkerContext]:
        if not self._contexts:
            raise ClusterError("the worker group is shut down; create a new one")
        return self._contexts


def _mean(arrays: list[np.ndarray | None]) -> np.ndarray | None:
    given = [array for array in arrays if array is not None]
    if not given:
        return None
    if len(given) < len(arrays):
        raise ClusterError(
            f"{len(given)} of {len(arrays)} workers ask for a mean while the others take turns; "
            "every worker must take the same steps"
        )
    return rank_ordered_mean(given)
