"""Ray actors joined by torch.distributed over gloo, on the loopback interface.

The actors know nothing of training: they run the functions that they are sent.
"""

from __future__ import annotations

import datetime
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import numpy as np

from weiml.config import nearest
from weiml.errors import ClusterError, ConfigError
from weiml.group.base import (
    Collective,
    Group,
    WorkerContext,
    check_num_workers,
    rank_ordered_mean,
)

__all__ = ["Backend", "WorkerGroup"]

Backend = Literal["gloo", "none"]
"""How arrays are averaged: gloo, or not at all (workers that never yield need no torch)."""

Reduction = Literal["ordered", "ring"]
"""ordered: all-gather, then the mean in rank order, bit-equal to `LocalGroup`; ring: all-reduce."""


class GroupWorker:
    """One member of the group: a plain class, made an actor by `WorkerGroup.create`."""

    def __init__(self, rank: int, num_workers: int, reduction: Reduction) -> None:
        self._context = WorkerContext(rank, num_workers)
        self._reduction = reduction
        self._process_group: Any = None
        self._store: Any = None

    def pid(self) -> int:
        """Return this worker's process id."""
        return os.getpid()

    def open_store(self, timeout_s: float) -> int:
        """Open the rendezvous store on a free loopback port (rank 0 only); return the port."""
        from torch._C._distributed_c10d import TCPStore

        listener = socket.create_server(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
        # The store would listen on every interface; handing it a socket keeps it on loopback.
        self._store = TCPStore(
            "127.0.0.1",
            port,
            self._context.num_workers,
            is_master=True,
            wait_for_workers=False,
            timeout=datetime.timedelta(seconds=timeout_s),
            master_listen_fd=listener.detach(),
        )
        return port

    def join(self, port: int, timeout_s: float) -> None:
        """Join the process group; returns when all workers have."""
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        import torch.distributed as dist
        from torch._C._distributed_c10d import TCPStore

        limit = datetime.timedelta(seconds=timeout_s)
        store = self._store or TCPStore(
            "127.0.0.1", port, self._context.num_workers, is_master=False, timeout=limit
        )
        dist.init_process_group(
            "gloo",
            store=store,
            rank=self._context.rank,
            world_size=self._context.num_workers,
            timeout=limit,
        )
        self._process_group = dist.group.WORLD

    def execute(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a function on this worker."""
        return function(self._context, *arguments)

    def run(self, function: Callable[..., Collective], arguments: tuple[Any, ...]) -> Any:
        """Drive a collective function on this worker."""
        generator = function(self._context, *arguments)
        try:
            array = next(generator)
            while True:
                array = generator.send(self._mean(array))
        except StopIteration as stop:
            return stop.value

    def _mean(self, array: np.ndarray | None) -> np.ndarray | None:
        if array is None or self._context.num_workers == 1:
            return array
        if self._process_group is None:
            raise ClusterError("the worker group has backend 'none' and cannot average arrays")
        import torch
        import torch.distributed as dist

        mine = torch.from_numpy(np.ascontiguousarray(array))
        if self._reduction == "ring":
            total = mine.clone()
            dist.all_reduce(total)
            return np.asarray((total / self._context.num_workers).numpy())
        parts = [torch.empty_like(mine) for _ in range(self._context.num_workers)]
        dist.all_gather(parts, mine)
        return rank_ordered_mean([part.numpy() for part in parts])


class WorkerGroup(Group):
    """Workers in processes of their own. Use `WorkerGroup.create`."""

    def __init__(self, actors: list[Any], timeout_s: float) -> None:
        self.num_workers = len(actors)
        self._actors = actors
        self._timeout_s = timeout_s
        self._pids: list[int] = []
        self._closed = False

    @classmethod
    def create(
        cls,
        num_workers: int,
        *,
        backend: Backend = "gloo",
        reduction: Reduction = "ordered",
        cpus_per_worker: float = 1,
        timeout_s: float = 60.0,
    ) -> Self:
        """Start the workers and join them; raises after cleaning up if that fails.

        Args:
            num_workers: number of actors.
            backend: see `Backend`; with one worker nothing needs joining.
            reduction: see `Reduction`; "ring" moves fewer bytes with many workers.
            cpus_per_worker: Ray's logical CPUs that each worker takes.
            timeout_s: limit for starting, and for each collective on gloo.

        Raises:
            ConfigError: an argument is wrong.
            ClusterError: Ray is not connected or has no room for the workers.
        """
        check_num_workers(num_workers)
        _check_choice("backend", backend, get_args(Backend))
        _check_choice("reduction", reduction, get_args(Reduction))
        import ray

        if not ray.is_initialized():
            raise ClusterError(
                "a worker group needs Ray, which is not connected; call ray.init(), or train with "
                "transport='embedded'"
            )
        actor = ray.remote(GroupWorker).options(
            num_cpus=cpus_per_worker, max_restarts=0, max_concurrency=1
        )
        group = cls(
            [actor.remote(rank, num_workers, reduction) for rank in range(num_workers)], timeout_s
        )
        try:
            group._start(backend, cpus_per_worker)
        except BaseException:
            group.shutdown()
            raise
        return group

    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Group.execute`; the workers run at the same time."""
        return self._call("execute", function, arguments)

    def run(self, function: Callable[..., Collective], *arguments: Any) -> list[Any]:
        """See `Group.run`; the workers run at the same time."""
        return self._call("run", function, arguments)

    def shutdown(self) -> None:
        """Kill the actors and wait until their processes on this machine are gone."""
        if self._closed:
            return
        self._closed = True
        import ray

        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        deadline = time.monotonic() + self._timeout_s
        alive = self._pids
        while alive and time.monotonic() < deadline:
            alive = [pid for pid in alive if _is_alive(pid)]
            if alive:
                time.sleep(0.02)
        if alive:
            raise ClusterError(f"worker processes {alive} are still there after a kill")

    def _start(self, backend: Backend, cpus_per_worker: float) -> None:
        import ray

        pending = [actor.pid.remote() for actor in self._actors]
        ready, waiting = ray.wait(
            pending, num_returns=len(pending), timeout=self._timeout_s, fetch_local=False
        )
        if waiting:
            raise ClusterError(
                f"only {len(ready)} of {self.num_workers} workers started within "
                f"{self._timeout_s:g} s; each takes cpus_per_worker={cpus_per_worker:g} of Ray's "
                f"{ray.cluster_resources().get('CPU', 0):g} CPUs: ask for fewer, or free some"
            )
        self._pids = self._collect(pending)
        if backend == "none" or self.num_workers == 1:
            return
        port = self._collect([self._actors[0].open_store.remote(self._timeout_s)])[0]
        self._collect([actor.join.remote(port, self._timeout_s) for actor in self._actors])

    def _call(self, method: str, function: Callable[..., Any], arguments: Any) -> list[Any]:
        if self._closed:
            raise ClusterError("the worker group is shut down; create a new one")
        try:
            return self._collect(
                [getattr(actor, method).remote(function, arguments) for actor in self._actors]
            )
        except BaseException:
            # The other workers may wait for this one in a collective: none of them can go on.
            self.shutdown()
            raise

    def _collect(self, references: list[Any]) -> list[Any]:
        """Return all results in rank order; raise the first failure at once."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        waiting = list(references)
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, fetch_local=False)
            try:
                ray.get(ready)
            except RayActorError as error:
                rank = references.index(ready[0])
                raise ClusterError(
                    f"worker {rank} of {self.num_workers} died: {error}; the group is shut down. "
                    "Look into the worker's log under Ray's session folder, and start again"
                ) from None
            except RayTaskError as error:
                raise error.cause from error
        results: list[Any] = ray.get(references)
        return results


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"{name} must be one of {choices}, got {value!r}{nearest(value, choices)}"
        )


def _is_alive(pid: int) -> bool:
    """True while the process runs; a zombie, which its parent has not yet reaped, is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while it is read
        return False
