"""Shards as Ray actors: the asynchronous shell that waits on the clock, and the way to reach it.

The shell is a plain class; `RayTransport.start` makes actors of it. All of a shard's work happens
in turn on its event loop (one writer); while a pull waits for the clock, pushes and ticks go on.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from weiml.errors import ClusterError, ParameterServerError, WeimlError
from weiml.ps.base import GroupConfig
from weiml.ps.checkpoint import read_image
from weiml.ps.partition import Partition
from weiml.ps.shard import READS, WRITES, Shard, Stamp
from weiml.ps.transport import Transport

__all__ = ["NAMESPACE", "RayTransport", "ShardActor", "actor_name"]

NAMESPACE = "weiml-ps"
"""The Ray namespace of all shards."""


def actor_name(group: str, shard: int) -> str:
    """Return the name of a shard's actor in `NAMESPACE`."""
    return f"{group}/shard-{shard}"


class ShardActor:
    """A shard whose requests may wait for the clock. Make an actor of it with ``ray.remote``."""

    def __init__(self, config: GroupConfig, index: int) -> None:
        self._config = config
        self._shard = Shard(config, index)
        self._changed = asyncio.Condition()

    async def hello(self) -> tuple[GroupConfig, int, str]:
        """Return (configuration, process id, node id): the shard is up."""
        return self._config, os.getpid(), ray.get_runtime_context().get_node_id()

    async def call(self, verb: str, *arguments: Any) -> Any:
        """Run a verb of `Shard`, after what it has to wait for."""
        if verb == "save":  # files are written beside the event loop, so that requests go on
            return await asyncio.to_thread(self._shard.image().write, *arguments)
        if verb == "load":
            return await self._load(*arguments)
        if verb in READS or verb in WRITES:
            await self._until_free(verb, arguments[0])
        answer = getattr(self._shard, verb)(*arguments)
        if verb in WRITES:
            async with self._changed:
                self._changed.notify_all()
        return answer

    async def _load(self, path: str, manifest: Any) -> None:
        partition = Partition(self._config.num_shards, self._config.num_buckets)
        index = self._shard.index
        self._shard.stage(await asyncio.to_thread(read_image, path, manifest, partition, index))

    async def _until_free(self, verb: str, stamp: Stamp) -> None:
        if self._shard.blocked(verb, stamp) is None:
            return
        limit = self._config.wait_timeout_s
        try:
            async with asyncio.timeout(limit), self._changed:
                await self._changed.wait_for(lambda: self._shard.blocked(verb, stamp) is None)
        except TimeoutError:
            raise ParameterServerError(
                f"parameter server group {self._config.name!r}, shard {self._shard.index}: a "
                f"{verb} waited wait_timeout_s = {limit:g} s for "
                f"{self._shard.blocked(verb, stamp)}; see why that does not come, or raise "
                f"wait_timeout_s"
            ) from None


class RayTransport(Transport):
    """Reaches the shards of one group by their actor handles."""

    name = "ray"

    def __init__(self, config: GroupConfig, handles: list[ActorHandle], owner: bool) -> None:
        self.config = config
        self._handles = handles
        self._owner = owner
        self._processes: list[tuple[int, str]] = []  # (process id, node id), the owner's to end
        self._closed = False

    @classmethod
    def start(cls, config: GroupConfig) -> RayTransport:
        """Start the shards' processes; on failure none is left behind.

        Raises:
            ClusterError: Ray is not running here.
            ParameterServerError: the name is taken, or a shard did not come up in time.
        """
        _check_ray()
        actor = ray.remote(ShardActor)
        transport = cls(config, [], owner=True)
        try:
            for shard in range(config.num_shards):
                options = {"name": actor_name(config.name, shard), "namespace": NAMESPACE}
                # No CPU is reserved: shards work in bursts while the workers wait for them.
                made = actor.options(**options, num_cpus=0, max_restarts=0, max_task_retries=0)
                transport._handles.append(made.remote(config, shard))
            hellos = [handle.hello.remote() for handle in transport._handles]
            answers = ray.get(hellos, timeout=config.start_timeout_s)
            transport._processes = [(pid, node) for _, pid, node in answers]
        except ValueError as error:  # Ray's word for a name that is taken
            transport.close()
            raise ParameterServerError(
                f"parameter server group {config.name!r} exists already: connect to it, close it, "
                f"or give another name ({error})"
            ) from None
        except GetTimeoutError:
            transport.close()
            raise ParameterServerError(
                f"parameter server group {config.name!r} did not start within start_timeout_s = "
                f"{config.start_timeout_s:g} s; raise it, or see the Ray logs"
            ) from None
        except BaseException:
            transport.close()
            raise
        return transport

    @classmethod
    def find(cls, name: str) -> RayTransport:
        """Reach a group that runs already.

        Raises:
            ClusterError: Ray is not running here.
            ParameterServerError: there is no such group, or it does not answer.
        """
        _check_ray()
        try:
            first = ray.get_actor(actor_name(name, 0), namespace=NAMESPACE)
            config, _, _ = ray.get(first.hello.remote(), timeout=GroupConfig.start_timeout_s)
            rest = [
                ray.get_actor(actor_name(name, shard), namespace=NAMESPACE)
                for shard in range(1, config.num_shards)
            ]
        except (ValueError, RayError) as error:
            raise ParameterServerError(
                f"no parameter server group {name!r} answers in this Ray cluster ({error})"
            ) from None
        return cls(config, [first, *rest], owner=False)

    def send(self, shard: int, verb: str, *arguments: Any) -> Any:
        """Send one request; returns its object reference."""
        if self._closed:
            raise ParameterServerError(f"parameter server group {self.config.name!r} is closed")
        return self._handles[shard].call.remote(verb, *arguments)

    def result(self, shard: int, handle: Any) -> Any:
        """Wait for one answer; Ray's own errors become `ParameterServerError`."""
        where = f"parameter server group {self.config.name!r}, shard {shard}"
        try:
            return ray.get(handle, timeout=self.config.call_timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, WeimlError):
                raise error.cause from None
            raise ParameterServerError(f"{where} failed: {error.cause!r}") from error
        except RayActorError as error:
            raise ParameterServerError(
                f"{where} is gone, and with it what it held since the last checkpoint: close the "
                f"group, start it again and load a checkpoint ({_first_line(error)})"
            ) from None
        except GetTimeoutError:
            raise ParameterServerError(
                f"{where} did not answer within call_timeout_s = {self.config.call_timeout_s:g} s"
            ) from None

    def close(self) -> None:
        """End the shards if this transport started them, and wait until they are gone.

        Raises:
            ParameterServerError: a process is still there after stop_timeout_s.
        """
        if self._closed:
            return
        self._closed = True
        if not self._owner:
            return
        if ray.is_initialized():  # otherwise they ended with the session that owned them
            for handle in self._handles:
                ray.kill(handle, no_restart=True)
        self._wait_until_gone()

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + self.config.stop_timeout_s
        while left := self._left():
            if time.monotonic() > deadline:
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r}: {', '.join(left)} still there "
                    f"after stop_timeout_s = {self.config.stop_timeout_s:g} s"
                )
            time.sleep(0.02)

    def _left(self) -> list[str]:
        """Return what is left of the group: names in Ray, and processes on this node."""
        left = []
        here = None
        if ray.is_initialized():
            here = ray.get_runtime_context().get_node_id()
            taken = {
                actor["name"]
                for actor in ray.util.list_named_actors(all_namespaces=True)
                if actor["namespace"] == NAMESPACE
            }
            names = {actor_name(self.config.name, s) for s in range(len(self._handles))}
            left += sorted(names & taken)
        return left + [
            f"process {pid}"
            for pid, node in self._processes
            if here in (None, node) and _is_running(pid)
        ]


def _check_ray() -> None:
    if not ray.is_initialized():
        raise ClusterError(
            "Ray is not running in this process; call ray.init() (or ray.init(address=...) to join "
            "a cluster) first, or use EmbeddedParameterServer"
        )


def _is_running(pid: int) -> bool:
    """Whether a process of this machine runs; one that ended but was not reaped does not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or its number is somebody else's now
        return False
    if not os.path.exists("/proc/self/stat"):
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
