"""What a group of workers is: functions run on every worker, and collectives as `yield`.

A collective function is a generator: ``mean = yield array`` hands in this worker's array and gets
the mean over all workers; ``yield None`` lets the others come as far. So one function runs
unchanged on many processes (each worker drives its own generator and averages over the network) and
on many logical workers of one process (one loop drives all generators in turn).

``handle = yield Start(array)`` does not wait: the mean is on its way while the worker computes, and
``mean = yield handle`` waits for it. `weiml.group.collectives` has what else can be asked for.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from weiml.errors import ConfigError

__all__ = ["Collective", "Group", "WorkerContext", "mean_once"]

Collective = Generator[Any, Any, Any]
"""Yields what it asks of all workers (`Request`; an array: its mean; `Start`; a `Handle`) and is
sent the answer, or yields None to take turns (processes of their own need no turns: nothing is
sent); returns its result."""


@dataclasses.dataclass
class WorkerContext:
    """Who a worker is, and what functions keep on it between calls."""

    rank: int
    num_workers: int
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"
    """Where to compute, as torch says it: cpu or cuda:0 …"""


class Group(ABC):
    """A fixed number of workers under one driver. Not thread-safe: one call at a time.

    After a call has raised, the group of processes is shut down: a collective without one of its
    members cannot go on.
    """

    num_workers: int

    @abstractmethod
    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return ``function(context, *arguments)`` of every worker, in rank order."""

    @abstractmethod
    def run(self, function: Callable[..., Collective], *arguments: Any) -> list[Any]:
        """Drive the generators ``function(context, *arguments)`` of all workers to their ends.

        Every worker must yield equally often, and at the same time the same: None, requests of one
        kind with arrays of equal shape and dtype, or the handle of the same request. Handles do not
        outlive the call.
        Returns the generators' return values, in rank order.
        """

    @abstractmethod
    def shutdown(self) -> None:
        """End all workers; returns when their processes are gone. Idempotent."""

    def all_reduce_mean(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give worker r the array ``arrays[r]``; return the mean that each worker ends up with."""
        if len(arrays) != self.num_workers:
            raise ConfigError(
                f"all_reduce_mean takes one array per worker ({self.num_workers}), "
                f"got {len(arrays)}"
            )
        return self.run(mean_once, list(arrays))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()


def mean_once(context: WorkerContext, arrays: list[np.ndarray]) -> Collective:
    """One collective on the array that belongs to this worker's rank."""
    mean = yield arrays[context.rank]
    return mean


def check_num_workers(num_workers: int) -> None:
    """Raise ConfigError unless there is at least one worker."""
    if num_workers < 1:
        raise ConfigError(f"num_workers must be at least 1, got {num_workers}")
