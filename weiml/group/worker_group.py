"""Workers in processes of their own: Ray actors joined by torch.distributed over gloo or NCCL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

from weiml.errors import ClusterError
from weiml.group.base import Collective, Group, check_num_workers
from weiml.group.config import Backend, Reduction, WorkerGroupConfig
from weiml.group.gang import Gang
from weiml.group.member import WorkerInfo

__all__ = ["WorkerGroup"]

T = TypeVar("T")


class WorkerGroup(Group):
    """Workers in processes of their own. Use `WorkerGroup.start` or `WorkerGroup.create`.

    Its size is `num_workers`, which a `restart` may change within the configuration's bounds.
    """

    def __init__(self, config: WorkerGroupConfig, gang: Gang) -> None:
        self.config = config
        self.num_workers = gang.size
        self._gang: Gang | None = gang

    @classmethod
    def start(cls, config: WorkerGroupConfig) -> Self:
        """Start the workers and join them; raises after cleaning up if that fails.

        Raises:
            ClusterError: Ray is not connected or has no room for the workers.
        """
        return cls(config, Gang.start(config))

    @classmethod
    def create(
        cls,
        num_workers: int,
        *,
        backend: Backend = "gloo",
        reduction: Reduction = "ordered",
        cpus_per_worker: float = 1,
        timeout_s: float = 60.0,
        **knobs: Any,
    ) -> Self:
        """Start a group by a few knobs; see `start`.

        Args:
            num_workers: number of actors.
            backend: see `Backend`; with one worker nothing needs joining.
            reduction: see `Reduction`; "ring" is the backend's own sum.
            cpus_per_worker: Ray's logical CPUs that each worker takes.
            timeout_s: limit for starting, and for each collective.
            knobs: any other of `WorkerGroupConfig`.

        Raises:
            ConfigError: an argument is wrong.
            ClusterError: Ray is not connected or has no room for the workers.
        """
        check_num_workers(num_workers)
        settings = {"start_timeout_s": timeout_s, "collective_timeout_s": timeout_s, **knobs}
        return cls.start(
            WorkerGroupConfig(
                num_workers=num_workers,
                backend=backend,
                reduction=reduction,
                cpus_per_worker=cpus_per_worker,
                **settings,
            )
        )

    @property
    def workers(self) -> list[WorkerInfo]:
        """Where each worker runs, in rank order."""
        return list(self._open().workers)

    @property
    def backend(self) -> str:
        """What "auto" came to: gloo, nccl or none."""
        return self._open().backend

    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Group.execute`; the workers run at the same time."""
        return self._guarded(lambda gang: gang.call("execute", function, arguments))

    def run(self, function: Callable[..., Collective], *arguments: Any) -> list[Any]:
        """See `Group.run`; the workers run at the same time."""
        return self._guarded(lambda gang: gang.call("run", function, arguments))

    def check(self) -> None:
        """Raise ClusterError, after shutting down, if a worker died or does not answer."""
        self._guarded(Gang.check)

    def restart(self) -> None:
        """End what is left of the gang and start another, as large as there is room for.

        What functions kept in the old workers' memory is gone: start from a checkpoint.

        Raises:
            ClusterError: no room for `min_workers`; the group stays shut down.
        """
        self.shutdown()
        self._gang = Gang.start(self.config)
        self.num_workers = self._gang.size

    def shutdown(self) -> None:
        """Kill the actors and wait until their processes on this machine are gone."""
        gang, self._gang = self._gang, None
        if gang is not None:
            gang.end()

    def _open(self) -> Gang:
        if self._gang is None:
            raise ClusterError("the worker group is shut down; create a new one or restart it")
        return self._gang

    def _guarded(self, action: Callable[[Gang], T]) -> T:
        gang = self._open()
        try:
            return action(gang)
        except BaseException:
            # The other workers may wait for this one in a collective: none of them can go on.
            self.shutdown()
            raise
