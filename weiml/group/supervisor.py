"""Replaces a worker group's gang when one of its workers died: as often as asked for, then no more.

It follows the shape of Ray Train's controller (states, a failure and a scaling policy) for a driver
that makes short calls. It knows no checkpoints: what runs on a gang resumes from its own.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from weiml.errors import ClusterError
from weiml.group.config import WorkerGroupConfig
from weiml.group.placement import fitting, free_by_node
from weiml.group.worker_group import WorkerGroup

__all__ = ["GangState", "Supervisor"]

T = TypeVar("T")

_LONGEST_WAIT_S = 60.0

log = logging.getLogger(__name__)


class GangState(enum.Enum):
    """Where a supervised group is in its life."""

    NEW = "new"
    """No gang yet."""
    RUNNING = "running"
    BROKEN = "broken"
    """The gang is gone; another will be started."""
    FAILED = "failed"
    """The gang is gone, and no other will be started."""
    CLOSED = "closed"


class Supervisor:
    """Keeps a gang running; `step` does one thing and moves on. Not thread-safe.

    Args:
        config: of the group; `max_restarts` and `restart_wait_s` are for this class.
        start: makes the group.
        sleep: waits so many seconds before a gang is replaced; may return early.
    """

    def __init__(
        self,
        config: WorkerGroupConfig,
        *,
        start: Callable[[WorkerGroupConfig], WorkerGroup] = WorkerGroup.start,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.state = GangState.NEW
        self.restarts = 0
        """How many gangs were started, or tried, after the first."""
        self.error: ClusterError | None = None
        """Why the last gang ended."""
        self._config = config
        self._start = start
        self._sleep = sleep
        self._group: WorkerGroup | None = None

    @property
    def group(self) -> WorkerGroup:
        """The group, when it is running."""
        if self.state is not GangState.RUNNING or self._group is None:
            raise ClusterError(f"the worker group is {self.state.value}; step the supervisor first")
        return self._group

    def step(self) -> GangState:
        """Start the gang, look whether it lives, or replace it; return the state afterwards.

        A failure is kept in `error` and never raised here, but for what is no ClusterError.
        """
        if self.state is GangState.NEW:
            self._attempt(self._begin)
        elif self.state is GangState.RUNNING:
            self._attempt(self.group.check)
        elif self.state is GangState.BROKEN:
            self.restarts += 1
            self._sleep(
                min(self._config.restart_wait_s * 2 ** (self.restarts - 1), _LONGEST_WAIT_S)
            )
            self._attempt(self._begin)
        return self.state

    def failed(self, error: ClusterError) -> None:
        """Say that a call of the group has raised; `step` then replaces the gang."""
        self._end()
        self.error = error
        left = self.restarts < self._config.max_restarts
        self.state = GangState.BROKEN if left else GangState.FAILED
        log.warning("%s (restart %d of %d)", error, self.restarts, self._config.max_restarts)

    def run(self, attempt: Callable[[WorkerGroup], T]) -> T:
        """Call ``attempt(group)`` on one gang after another until it returns.

        `attempt` begins from its newest checkpoint each time, with `group.num_workers` workers.

        Raises:
            ClusterError: the last gang's, when `max_restarts` is used up.
            Exception: what `attempt` raised other than ClusterError, at once.
        """
        while True:
            while self.state in (GangState.NEW, GangState.BROKEN):
                self.step()
            if self.state is GangState.FAILED:
                assert self.error is not None
                raise self.error
            try:
                return attempt(self.group)
            except ClusterError as error:
                self.failed(error)

    def room_to_grow(self) -> int:
        """Return how many more workers a `resize` would find room for now, within `max_workers`."""
        more = self._config.most - self.group.num_workers
        return min(more, fitting(self._config, free_by_node())) if more else 0

    def resize(self) -> None:
        """Replace a healthy gang by one as large as there is room for; counts as no restart.

        Raises:
            ClusterError: there is no longer room.
        """
        try:
            self.group.restart()
        except ClusterError as error:
            self.failed(error)
            raise

    def close(self) -> None:
        """End the gang; returns when its processes are gone. Idempotent."""
        self._end()
        self.state = GangState.CLOSED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except ClusterError as error:
            self.failed(error)
        else:
            self.state = GangState.RUNNING

    def _begin(self) -> None:
        self._group = self._start(self._config)

    def _end(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.shutdown()
