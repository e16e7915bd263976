"""Who a group was heard of by, and when: its creator, and the workers' processes.

It decides who counts as gone; what follows from that is the coordinator's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from weiml.ps.base import GroupConfig
from weiml.ps.processes.liveness import is_running, nodes

__all__ = ["Leases"]


@dataclass(frozen=True)
class _Worker:
    """A client that speaks for a worker, and the process that it lives in."""

    worker: int
    heard_at: float
    pid: int
    node: str


class Leases:
    """The creator's lease and the workers of one group."""

    def __init__(self, config: GroupConfig) -> None:
        self._config = config
        self._owner_heard_at = time.monotonic()
        self._workers: dict[str, _Worker] = {}  # by client
        self._finished: set[int] = set()

    def renew(
        self, owner: bool, workers: dict[str, tuple[int, int, str]], left: dict[str, int]
    ) -> None:
        """Hear from a process: whether it made the group, its workers' clients, those that left."""
        now = time.monotonic()
        if owner:
            self._owner_heard_at = now
        for client, worker in left.items():
            self._workers.pop(client, None)
            self._finished.add(worker)
        for client, (worker, pid, node) in workers.items():
            self._workers[client] = _Worker(worker, now, pid, node)
            self._finished.discard(worker)

    def overdue(self, now: float) -> float | None:
        """Return for how long nothing was heard of the creator, in s, if its lease is over."""
        lease, silence = self._config.lease_s, now - self._owner_heard_at
        return silence if lease is not None and silence > lease else None

    def gone(self, now: float) -> Iterator[str]:
        """Yield the clients whose processes are no more, or were silent for too long."""
        limit = self._config.worker_timeout_s
        for client, worker in list(self._workers.items()):
            silent = limit is not None and now - worker.heard_at > limit
            if silent or _is_dead(worker):
                yield client

    def worker(self, client: str) -> int:
        """Return the worker that a client speaks for."""
        return self._workers[client].worker

    def forget(self, client: str) -> None:
        """Forget a client that was declared dead; its worker has not finished."""
        self._workers.pop(client, None)

    def workers(self) -> list[int]:
        """Return the workers that are there."""
        return sorted({worker.worker for worker in self._workers.values()})

    def set_unfinished(self, live: list[list[int]]) -> None:
        """Take all as finished that are in the clock of no shard: what a restart has to go by."""
        self._finished = set(range(self._config.num_workers)).difference(*live)

    def unfinished(self) -> list[int]:
        """Return the workers that have not finished."""
        return [w for w in range(self._config.num_workers) if w not in self._finished]

    def all_finished(self) -> bool:
        """Whether each worker has finished; one that died has not: it may be started again."""
        return not self._workers and len(self._finished) >= self._config.num_workers


def _is_dead(worker: _Worker) -> bool:
    if worker.node == ray.get_runtime_context().get_node_id():
        return not is_running(worker.pid)
    return worker.node not in nodes()
