"""A gang: the actors of one life of a worker group, started together and ended together."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from typing import Any

from weiml.errors import ClusterError
from weiml.group.communicator import CommunicationError
from weiml.group.config import WorkerGroupConfig
from weiml.group.member import GroupWorker, WorkerInfo, machine_id
from weiml.group.placement import Room, find_room, gpus_of

__all__ = ["Gang"]

_END_S = 30.0
_INSIST_S = 3.0


class Gang:
    """Actors that live and die together. `Gang.start` makes one; `end` is idempotent."""

    def __init__(self, config: WorkerGroupConfig, room: Room) -> None:
        self.size = room.size
        self.backend = "none"
        self.workers: list[WorkerInfo] = []
        self._config = config
        self._room = room
        self._actors: list[Any] = []
        self._ended = False

    @classmethod
    def start(cls, config: WorkerGroupConfig) -> Gang:
        """Find room, start the workers and join them; leaves nothing behind if that fails.

        Raises:
            ClusterError: Ray is not connected, has no room, or a worker does not start.
        """
        import ray

        if not ray.is_initialized():
            raise ClusterError(
                "a worker group needs Ray, which is not connected; call ray.init(), or train with "
                "transport='embedded'"
            )
        gang = cls(config, find_room(config))
        try:
            gang._start()
        except BaseException:
            gang.end()
            raise
        return gang

    def call(self, method: str, *arguments: Any, limit_s: float = math.inf) -> list[Any]:
        """Call a method of every worker at the same time; return the results in rank order.

        Raises:
            ClusterError: a worker died, could not reach the others, or took longer than `limit_s`.
            Exception: what a worker's function raised, the first of them.
        """
        references = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        return self.collect(references, limit_s)

    def collect(self, references: list[Any], limit_s: float = math.inf) -> list[Any]:
        """Return the results of the workers from rank 0 on; raise the first failure at once."""
        import ray

        waiting = list(references)
        broken: dict[int, CommunicationError] = {}
        deadline = time.monotonic() + limit_s
        while waiting:
            left = None if deadline == math.inf else max(deadline - time.monotonic(), 0.0)
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=left, fetch_local=False)
            if not ready:
                break
            rank = references.index(ready[0])
            error = self._failure_of(rank, ready[0])
            if error is not None:
                # A worker whose connection broke often says so before Ray knows who died.
                deadline = min(deadline, time.monotonic() + self._config.notice_timeout_s)
                broken.setdefault(rank, error)
        if broken:
            raise self._unreached(broken)
        if waiting:
            raise self._silent([references.index(reference) for reference in waiting], limit_s)
        results: list[Any] = ray.get(references)
        return results

    def check(self) -> None:
        """Raise ClusterError if a worker died since the last call, or does not answer."""
        self.call("alive", limit_s=self._config.collective_timeout_s)

    def end(self) -> None:
        """Kill the actors, give their room back, wait until their processes here are gone."""
        if self._ended:
            return
        self._ended = True
        import ray

        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._room.release()
        self._await_end()

    def _await_end(self) -> None:
        from weiml.ps.processes.liveness import is_running  # not above: it imports Ray

        alive = self._local_pids()
        begin = time.monotonic()
        insisted = False
        while alive := [pid for pid in alive if is_running(pid)]:
            waited = time.monotonic() - begin
            if waited > _END_S:
                raise ClusterError(f"worker processes {alive} are still there after a kill")
            if waited > _INSIST_S and not insisted:
                insisted = True
                _kill(alive)  # a process that is stopped hears nothing of Ray
            time.sleep(0.02)

    def _start(self) -> None:
        import ray

        actor = ray.remote(GroupWorker)
        for rank in range(self.size):
            options = self._room.options(rank)
            made = actor.options(**options, max_restarts=0, max_concurrency=1)
            self._actors.append(made.remote(rank, self.size, self._config))
        pending = [actor.start.remote() for actor in self._actors]
        limit = self._config.start_timeout_s
        ready, waiting = ray.wait(
            pending, num_returns=len(pending), timeout=limit, fetch_local=False
        )
        if waiting:
            self.workers = ray.get(ready)
            raise ClusterError(
                f"only {len(ready)} of {self.size} workers started within start_timeout_s = "
                f"{limit:g} s; look into the logs under Ray's session folder, or give them longer"
            )
        self.workers = self.collect(pending)
        self._check_reachable()
        self._join()

    def _join(self) -> None:
        if self._config.backend == "none":
            return
        self.backend = self._choose_backend()
        if self.size == 1:
            return
        address = self.workers[0].address
        store = self.collect([self._actors[0].listen.remote(address)])[0]
        self.collect(
            [
                actor.join.remote(store, self.backend, worker.address)
                for actor, worker in zip(self._actors, self.workers, strict=True)
            ]
        )

    def _choose_backend(self) -> str:
        if self._config.backend != "auto":
            return self._config.backend
        own = gpus_of(self._config) >= 1 and all(w.device != "cpu" for w in self.workers)
        return "nccl" if own else "gloo"

    def _check_reachable(self) -> None:
        machines = {worker.address for worker in self.workers}
        if len(machines) > 1 and self._config.interface == "loopback":
            raise ClusterError(
                f"the workers lie on {len(machines)} machines ({', '.join(sorted(machines))}), "
                "which do not reach each other by interface = 'loopback'; set interface to auto or "
                "to a name such as eth0, or placement to STRICT_PACK"
            )

    def _failure_of(self, rank: int, reference: Any) -> CommunicationError | None:
        """Raise what a worker's call came to; return it if the worker only lost the others."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            ray.get(reference)
        except RayActorError as error:
            raise self._died(rank, error) from None
        except RayTaskError as error:
            if isinstance(error.cause, CommunicationError):
                return error.cause
            raise error.cause from error
        return None

    def _silent(self, ranks: list[int], limit_s: float) -> ClusterError:
        return ClusterError(
            f"worker {', '.join(map(str, ranks))} of {self.size} does not answer within "
            f"{limit_s:g} s (collective_timeout_s); the group is shut down"
        )

    def _died(self, rank: int, error: Exception) -> ClusterError:
        place = ""
        if rank < len(self.workers):
            worker = self.workers[rank]
            place = f" (process {worker.pid} on {worker.host})"
        reason = " ".join(str(error).split())
        return ClusterError(
            f"worker {rank} of {self.size} died{place}: {reason[:400]}; the group is shut down. "
            "Look into the worker's log under Ray's session folder, and start again"
        )

    def _unreached(self, broken: dict[int, CommunicationError]) -> ClusterError:
        silent = [str(rank) for rank in range(self.size) if rank not in broken]
        words = f"; worker {', '.join(silent)} did not come, and lives" if silent else ""
        first = next(iter(broken.values()))
        return ClusterError(
            f"{len(broken)} of {self.size} workers lost the others{words}; the group is shut down. "
            f"{first}"
        )

    def _local_pids(self) -> list[int]:
        """Return the processes that can be looked at: those whose numbers mean the same here."""
        here = machine_id()
        return [worker.pid for worker in self.workers if worker.machine == here]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
