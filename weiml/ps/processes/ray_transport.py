"""Reaching the shards of a group by their actor handles, and finding who replaces a lost one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import (
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from weiml.config import nearest
from weiml.errors import ClusterError, ParameterServerError, WeimlError
from weiml.ps.base import GroupConfig
from weiml.ps.partition import Partition
from weiml.ps.processes.actors import NAMESPACE, DeposedError, coordinator_name
from weiml.ps.processes.coordinator import Coordinator
from weiml.ps.processes.liveness import is_running
from weiml.ps.processes.members import Route
from weiml.ps.transport import ShardGoneError, StillWaitingError, Transport

__all__ = ["RayTransport", "list_groups"]

_RETRY_S = 0.05
_LONGEST_BEAT_S = 5.0


class _Sent:
    """A request on its way to one process."""

    def __init__(self, reference: Any, epoch: int) -> None:
        self.reference = reference
        self.epoch = epoch


class RayTransport(Transport):
    """Reaches the shards of one group. Safe to use from several threads."""

    name = "ray"

    def __init__(self, coordinator: ActorHandle, route: Route, owner: bool) -> None:
        self.config = route.config
        self._coordinator = coordinator
        self._route = route
        self._owner = owner
        self._closed = False
        self._lock = threading.Lock()
        self.workers = {}
        self._left: dict[str, int] = {}
        self._beat = threading.Event()
        self._pulse = threading.Thread(
            target=_keep_alive, args=(weakref.ref(self), self._beat), daemon=True
        )
        self._pulse.start()

    @classmethod
    def start(cls, config: GroupConfig) -> RayTransport:
        """Start a group's processes; on failure none is left behind.

        Raises:
            ClusterError: Ray is not running here.
            ParameterServerError: the name is taken, or a shard did not come up in time.
        """
        _check_ray()
        options: dict[str, Any] = {
            "name": coordinator_name(config.name),
            "namespace": NAMESPACE,
            # It outlives its creator, to save what the group holds; the lease ends it.
            "lifetime": "detached",
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": -1,
            "max_concurrency": 10_000,
        }
        try:
            coordinator = ray.remote(Coordinator).options(**options).remote(config)
        except ValueError as error:  # Ray's word for a name that is taken
            raise ParameterServerError(
                f"parameter server group {config.name!r} exists already: connect to it, close it, "
                f"or give another name ({error})"
            ) from None
        try:
            limit = 2 * config.start_timeout_s  # the coordinator's start, then the shards'
            route = ray.get(coordinator.begin.remote(), timeout=limit)
        except BaseException as error:
            _abandon(coordinator)
            if isinstance(error, RayTaskError) and isinstance(error.cause, WeimlError):
                raise error.cause from None
            if isinstance(error, GetTimeoutError | RayTaskError | TimeoutError):
                raise ParameterServerError(
                    f"parameter server group {config.name!r} did not start within start_timeout_s "
                    f"= {config.start_timeout_s:g} s; raise it, or see the Ray logs "
                    f"({_first_line(error)})"
                ) from None
            raise
        return cls(coordinator, route, owner=True)

    @classmethod
    def find(cls, name: str) -> RayTransport:
        """Reach a group that runs already.

        Raises:
            ClusterError: Ray is not running here.
            ParameterServerError: there is no such group, or it does not answer.
        """
        _check_ray()
        try:
            coordinator = ray.get_actor(coordinator_name(name), namespace=NAMESPACE)
            route = ray.get(coordinator.route.remote(), timeout=GroupConfig.start_timeout_s)
        except ValueError:  # Ray's word for a name that nobody has
            raise ParameterServerError(
                f"no parameter server group {name!r} runs in this Ray cluster"
                f"{nearest(name, list_groups())}"
            ) from None
        except RayError as error:
            raise ParameterServerError(
                f"parameter server group {name!r} does not answer ({_first_line(error)}); see "
                f"`weiml ps status`"
            ) from None
        return cls(coordinator, route, owner=False)

    @property
    def partition(self) -> Partition:
        """The newest partition that this process has heard of."""
        return self._route.partition

    def newest(self) -> Partition:
        """Ask the coordinator for the partition in force."""
        self._take(self.ask_coordinator("route"))
        return self._route.partition

    def refresh(self, version: int) -> Partition:
        """Return a partition of at least `version`."""
        if self._route.partition.version < version:
            self._take(self.ask_coordinator("route", version))
        return self._route.partition

    def send(self, shard: int, verb: str, *arguments: Any) -> _Sent:
        """Send one request; returns a handle for `result`."""
        if self._closed:
            raise ParameterServerError(f"parameter server group {self.config.name!r} is closed")
        found = self._route.primaries.get(shard)
        if found is None:
            raise ShardGoneError(shard, "nobody speaks for it")
        epoch, handle = found
        return _Sent(handle.call.remote(verb, *arguments), epoch)

    def result(self, shard: int, handle: _Sent, patience_s: float | None = None) -> Any:
        """Wait for one answer; see `Transport.result` for what Ray's own errors become."""
        where = f"parameter server group {self.config.name!r}, shard {shard}"
        limit = self.config.call_timeout_s if patience_s is None else patience_s
        try:
            return ray.get(handle.reference, timeout=limit)
        except RayTaskError as error:
            if isinstance(error.cause, DeposedError):
                raise self._gone(shard, "another process took over", handle) from None
            if isinstance(error.cause, WeimlError):
                raise error.cause from None
            raise ParameterServerError(f"{where} failed: {error.cause!r}") from error
        except RayActorError as error:
            if self._closed:
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r} is closed"
                ) from None
            raise self._gone(shard, _first_line(error), handle) from None
        except GetTimeoutError:
            if patience_s is not None:
                raise StillWaitingError from None
            raise ParameterServerError(
                f"{where} did not answer within call_timeout_s = {self.config.call_timeout_s:g} s"
            ) from None

    def _gone(self, shard: int, why: str, handle: _Sent) -> ShardGoneError:
        gone = ShardGoneError(shard, why)
        gone.epoch = handle.epoch
        return gone

    def epoch(self, handle: _Sent) -> int:
        """Return the epoch of the process that a request went to."""
        return handle.epoch

    def born(self, shard: int) -> int:
        """Return the version of the partition that brought a shard."""
        return self._route.born.get(shard, 0)

    def recover(self, gone: ShardGoneError) -> bool:
        """Ask the coordinator who speaks for the shard now; False if it was removed.

        Raises:
            ParameterServerError: nobody does, within failover_timeout_s.
        """
        known = self._route.primaries.get(gone.shard)
        lost = gone.epoch if gone.epoch is not None else (known[0] if known else -1)
        if known is None or known[0] <= lost:
            self._take(self.ask_coordinator("successor", gone.shard, lost))
        return gone.shard < self._route.partition.num_shards

    def rescale(self, num_shards: int) -> None:
        """Let the coordinator move buckets."""
        limit = 2 * self.config.call_timeout_s
        self.ask_coordinator("rescale", num_shards, timeout_s=limit)
        self._take(self.ask_coordinator("route"))

    def checkpoint(self, full: bool) -> str:
        """Let the coordinator take the next checkpoint."""
        limit = self.config.call_timeout_s
        return str(self.ask_coordinator("checkpoint", full, timeout_s=limit))

    def save(self, path: str) -> None:
        """Let the coordinator write a checkpoint; a plain path means this process's folder."""
        self.ask_coordinator("save", absolute(path), timeout_s=self.config.call_timeout_s)

    def load(self, path: str) -> None:
        """Let the coordinator load a checkpoint."""
        self.ask_coordinator("load", absolute(path), timeout_s=self.config.call_timeout_s)

    def group_status(self) -> dict[str, Any]:
        """Return what the coordinator knows."""
        return dict(self.ask_coordinator("status"))

    def _take(self, route: Route) -> None:
        with self._lock:
            if route.partition.version >= self._route.partition.version:
                self._route = route

    def ask_coordinator(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Call the coordinator, which may be just being started again.

        Raises:
            ParameterServerError: it refused, or did not answer in time.
        """
        limit = timeout_s or self.config.failover_timeout_s + self.config.wait_timeout_s
        deadline = time.monotonic() + limit
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.1)
                return ray.get(getattr(self._coordinator, method).remote(*arguments), timeout=left)
            except RayTaskError as error:
                if isinstance(error.cause, WeimlError):
                    raise error.cause from None
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r}: {method} failed: {error.cause!r}"
                ) from error
            except RayActorError as error:
                if time.monotonic() > deadline or not self._finds_coordinator():
                    raise ParameterServerError(
                        f"parameter server group {self.config.name!r} has ended "
                        f"({_first_line(error)})"
                    ) from None
                time.sleep(_RETRY_S)
            except GetTimeoutError:
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r}: its coordinator did not finish "
                    f"{method} within {limit:g} s"
                ) from None

    def _finds_coordinator(self) -> bool:
        try:
            name = coordinator_name(self.config.name)
            self._coordinator = ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return False
        return True

    # The lease, and the workers of this process

    def enter(self, worker: int, client: str) -> None:
        """Let the coordinator know that this process has a worker, and that it lives."""
        super().enter(worker, client)
        self._beat.set()

    def leave(self, client: str) -> None:
        """Let the coordinator know that a worker has finished."""
        worker = self.workers.get(client)
        super().leave(client)
        if worker is not None:
            self._left[client] = worker
        self._beat.set()

    def renew(self) -> None:
        """Tell the coordinator once that this process and its workers live."""
        node = ray.get_runtime_context().get_node_id()
        workers = {client: (w, os.getpid(), node) for client, w in list(self.workers.items())}
        left = dict(self._left)
        ray.get(self._coordinator.renew.remote(self._owner, workers, left), timeout=30)
        for client in left:
            self._left.pop(client, None)

    @property
    def coordinator(self) -> ActorHandle:
        """The coordinator's handle."""
        return self._coordinator

    @property
    def beat_s(self) -> float:
        """Seconds between two renewals."""
        limits = [self.config.lease_s, self.config.worker_timeout_s]
        return min([_LONGEST_BEAT_S] + [limit / 4 for limit in limits if limit is not None])

    @property
    def closed(self) -> bool:
        """Whether this transport was closed."""
        return self._closed

    def close(self) -> None:
        """End the group if this transport started it, and wait until its processes are gone.

        Raises:
            ParameterServerError: a process is still there after stop_timeout_s.
        """
        if self._closed:
            return
        self._closed = True
        self._beat.set()
        if self._owner and ray.is_initialized():
            end_group(self._coordinator, self.config)


def end_group(coordinator: ActorHandle, config: GroupConfig) -> None:
    """Let a group save, end its processes and wait until they are gone.

    Raises:
        ParameterServerError: a process is still there after stop_timeout_s.
    """
    processes: list[tuple[int, str]] = []
    with contextlib.suppress(RayError):
        processes = ray.get(coordinator.end.remote(), timeout=config.call_timeout_s)
    _abandon(coordinator)
    here = ray.get_runtime_context().get_node_id()
    deadline = time.monotonic() + config.stop_timeout_s
    while left := [f"process {pid}" for pid, node in processes if node == here and is_running(pid)]:
        if time.monotonic() > deadline:
            raise ParameterServerError(
                f"parameter server group {config.name!r}: {', '.join(left)} still there after "
                f"stop_timeout_s = {config.stop_timeout_s:g} s"
            )
        time.sleep(0.02)
    name = coordinator_name(config.name)
    while time.monotonic() < deadline:
        try:
            ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return
        time.sleep(0.02)


def list_groups() -> list[str]:
    """Return the names of the groups that run in the Ray cluster of this process, sorted.

    Raises:
        ClusterError: Ray is not running here.
    """
    _check_ray()
    suffix = coordinator_name("")
    return sorted(
        actor["name"].removesuffix(suffix)
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == NAMESPACE and actor["name"].endswith(suffix)
    )


def _abandon(coordinator: ActorHandle) -> None:
    with contextlib.suppress(RayError):
        ray.get(coordinator.kill_all.remote(), timeout=10)
    ray.kill(coordinator, no_restart=True)


def _keep_alive(reference: weakref.ref[RayTransport], beat: threading.Event) -> None:
    """Renew lease and workers until the transport is closed, collected or cut off."""
    while True:
        transport = reference()
        if transport is None or transport.closed or not ray.is_initialized():
            return
        beat.clear()
        wait_s = transport.beat_s
        try:
            transport.renew()
        except RayError:
            wait_s = min(wait_s, 1.0)  # the coordinator may be starting again
        except Exception:
            return  # Ray is going down with this process
        del transport
        beat.wait(wait_s)


def absolute(path: str) -> str:
    """Return a local path as seen from any process of this machine; URLs stay as they are."""
    return path if "://" in path else os.path.abspath(path)


def _check_ray() -> None:
    if not ray.is_initialized():
        raise ClusterError(
            "Ray is not running in this process; call weiml.cluster.start_ray(), or join_ray(…) "
            "with the address of a cluster, or use EmbeddedParameterServer"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
