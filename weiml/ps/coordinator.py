"""One process a group that knows who speaks for each shard, and sees to it that somebody does.

It starts the shards' processes, promotes a stand-by when a shard is lost and has a new one built,
restores a shard without stand-bys from the last checkpoint, moves buckets, takes checkpoints, and
ends the group when its work is done or its creator is gone. It handles no rows and no pushes. When
it dies itself, Ray starts it again and it learns from the shards what it needs; nobody waits for it
but those who lost a shard meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from weiml.errors import ParameterServerError, WeimlError
from weiml.ps.actors import NAMESPACE, DeposedError, Role, ShardActor, shard_name
from weiml.ps.base import GroupConfig
from weiml.ps.group_checkpoints import GroupCheckpoints, load_path, save_path
from weiml.ps.metrics import Exporter, Sample, group_samples
from weiml.ps.partition import Partition
from weiml.ps.rescale import rescale

__all__ = ["Coordinator", "GroupState", "Route"]

_SUPERVISE_S = 0.25
_LOST_POLL_S = 0.02

log = logging.getLogger(__name__)


class GroupState(enum.Enum):
    """Where a group is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESCALING = "rescaling"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True)
class Route:
    """How the shards are reached, as of a moment."""

    config: GroupConfig
    partition: Partition
    primaries: dict[int, tuple[int, ActorHandle]]
    """Shard: (epoch, the process that speaks for it)."""


@dataclass(eq=False)
class _Process:
    name: str
    number: int
    handle: ActorHandle
    pid: int
    node: str


@dataclass(eq=False)
class _Member:
    """One shard's processes."""

    primary: _Process | None = None
    epoch: int = 0
    standbys: list[_Process] = field(default_factory=list)
    """Those that have everything, fit to be promoted."""
    joining: list[_Process] = field(default_factory=list)
    """Those that are being copied to."""
    building: int = 0
    lost: str | None = None
    """Why nothing holds what the shard held."""
    failovers: int = 0
    restores: int = 0


class Coordinator:
    """See the module. Coroutines of one event loop (an async actor)."""

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.state = GroupState.STARTING
        self._partition = Partition(config.num_shards, config.num_buckets)
        self._members: dict[int, _Member] = {}
        self._numbers: dict[int, int] = {}
        self._changed = asyncio.Condition()
        self._starting = asyncio.Lock()
        self._busy = asyncio.Lock()  # one rescale, checkpoint or end at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner_heard_at = time.monotonic()
        self._owned = False
        self._workers: dict[int, tuple[float, int, str]] = {}  # heard at, pid, node
        self._seen_workers: set[int] = set()
        self._checkpoints = GroupCheckpoints(config) if config.checkpoint_root else None
        self._checkpointed_at = time.monotonic()
        self._checkpointing: asyncio.Task[str] | None = None
        self._last_error: str | None = None

    # Start

    async def begin(self) -> Route:
        """Start all shards' processes; the group runs when this returns."""
        async with self._starting:
            if self.state is GroupState.STARTING:
                shards = range(self._partition.num_shards)
                try:
                    await asyncio.gather(*(self._start_member(s, self._partition) for s in shards))
                except BaseException:
                    self._kill_all()
                    raise
                self._run()
        return self._route()

    async def _start_member(self, shard: int, partition: Partition) -> None:
        first, *others = await asyncio.gather(
            self._start_process(shard, partition, 0, Role.PRIMARY),
            *(
                self._start_process(shard, partition, 0, Role.STANDBY)
                for _ in range(self.config.replicas - 1)
            ),
        )
        member = _Member(primary=first)
        self._members[shard] = member
        self._watch(shard, first)
        for standby in others:
            await self._join_standby(shard, member, standby)

    async def _start_process(
        self, shard: int, partition: Partition, epoch: int, role: Role
    ) -> _Process:
        number = self._numbers.get(shard, -1) + 1
        self._numbers[shard] = number
        name = shard_name(self.config.name, shard, number)
        # No CPU is reserved: shards work in bursts while the workers wait for them.
        made = ray.remote(ShardActor).options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=10_000,
            scheduling_strategy=self._place(shard),
        )
        handle = made.remote(self.config, shard, number, partition, epoch, role.value)
        try:
            hello = await asyncio.wait_for(
                _await(handle.start.remote()), self.config.start_timeout_s
            )
        except BaseException:
            ray.kill(handle, no_restart=True)
            raise
        return _Process(name, number, handle, hello["pid"], hello["node"])

    def _place(self, shard: int) -> Any:
        """Choose the node with the fewest processes of this group, of this shard above all."""
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        if len(nodes) < 2:
            return "DEFAULT"
        load = dict.fromkeys(nodes, 0)
        for other, member in self._members.items():
            for process in _processes(member):
                if process.node in load:
                    load[process.node] += 1000 if other == shard else 1
        return NodeAffinitySchedulingStrategy(min(nodes, key=load.__getitem__), soft=True)

    def _run(self) -> None:
        self.state = GroupState.RUNNING
        self._spawn(self._supervise())
        self._spawn(Exporter(self.config.name).run(self._samples))

    async def _ready(self) -> None:
        """After a restart: learn from the shards that run what the group is."""
        async with self._starting:
            if self.state is not GroupState.STARTING:
                return
            found = await self._find_processes()
            if found:
                await self._adopt(found)
                self._run()

    async def _find_processes(self) -> list[tuple[_Process, dict[str, Any]]]:
        prefix = f"{self.config.name}/shard-"
        names = [
            actor["name"]
            for actor in ray.util.list_named_actors(all_namespaces=True)
            if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)
        ]
        found = []
        for name in names:
            with contextlib.suppress(ValueError, RayActorError, TimeoutError):
                handle = ray.get_actor(name, NAMESPACE)
                hello = await asyncio.wait_for(_await(handle.hello.remote()), 10)
                process = _Process(name, hello["number"], handle, hello["pid"], hello["node"])
                found.append((process, hello))
        return found

    async def _adopt(self, found: list[tuple[_Process, dict[str, Any]]]) -> None:
        by_shard: dict[int, list[tuple[_Process, dict[str, Any]]]] = {}
        for process, hello in found:
            by_shard.setdefault(hello["shard"], []).append((process, hello))
        self._partition = max((h["partition"] for _, h in found), key=lambda p: p.version)
        for shard, processes in by_shard.items():
            self._numbers[shard] = max(process.number for process, _ in processes)
            primaries = [(p, h) for p, h in processes if h["role"] == Role.PRIMARY.value]
            member = self._members[shard] = _Member()
            if primaries:
                primary, hello = max(primaries, key=lambda found: found[1]["epoch"])
                member.primary, member.epoch = primary, hello["epoch"]
                member.standbys = [p for p, _ in processes if p.name in hello["standbys"]]
                self._watch(shard, primary)
            else:  # it died while nobody looked: a stand-by that followed it last takes over
                _, newest = max(processes, key=lambda found: found[1]["epoch"])
                member.epoch = newest["epoch"]
                member.standbys = [p for p, _ in processes]
                await self._replace(shard, member)
            kept = {process.name for process in _processes(member)}
            for process, _ in processes:
                if process.name not in kept:
                    ray.kill(process.handle, no_restart=True)
            for standby in member.standbys:
                self._watch(shard, standby)
            self._spawn(self._complete(shard, member))

    # Failures

    def _watch(self, shard: int, process: _Process) -> None:
        self._spawn(self._until_death(shard, process))

    async def _until_death(self, shard: int, process: _Process) -> None:
        with contextlib.suppress(RayActorError, RayTaskError):
            await process.handle.until_end.remote()
        if self.state in (GroupState.ENDING, GroupState.ENDED):
            return
        member = self._members.get(shard)
        if member is None:
            return
        if process in member.standbys:
            member.standbys.remove(process)
            if member.primary is not None:
                with contextlib.suppress(RayActorError):
                    await member.primary.handle.drop_standby.remote(process.name)
            await self._complete(shard, member)
        elif process is member.primary:
            ray.kill(process.handle, no_restart=True)
            await self._replace(shard, member)
            await self._complete(shard, member)

    async def _replace(self, shard: int, member: _Member) -> None:
        """Let a stand-by, or a process restored from a checkpoint, speak for the shard."""
        member.primary = None
        while member.standbys and member.primary is None:
            standby = member.standbys.pop(0)
            try:
                await standby.handle.promote.remote(member.epoch + 1)
            except RayActorError:
                continue
            for other in member.standbys:  # they have followed the process that is lost
                ray.kill(other.handle, no_restart=True)
            member.standbys = []
            member.epoch += 1
            member.failovers += 1
            member.primary = standby
            log.warning("shard %d: stand-by %s took over", shard, standby.name)
        if member.primary is None:
            await self._restore(shard, member)
        async with self._changed:
            self._changed.notify_all()

    async def _restore(self, shard: int, member: _Member) -> None:
        try:
            chain = self._checkpoints.newest() if self._checkpoints else None
            if chain is None:
                member.lost = (
                    f"and with it what it held since the last checkpoint: no stand-by was ready "
                    f"(replicas = {self.config.replicas}) and there is no checkpoint below "
                    f"checkpoint_root to restore it from. Close the group, start it again and load "
                    f"a checkpoint; replicas = 2 keeps every acknowledged push"
                )
                return
            process = await self._start_process(
                shard, self._partition, member.epoch + 1, Role.PRIMARY
            )
            await process.handle.restore.remote(chain)
        except Exception as error:
            member.lost = f"and could not be restored from the last checkpoint: {error}"
            return
        member.primary = process
        member.epoch += 1
        member.restores += 1
        self._watch(shard, process)
        log.warning("shard %d: restored from checkpoint %s", shard, chain.place)

    async def _complete(self, shard: int, member: _Member) -> None:
        """Build the stand-bys that a shard lacks, in the background of its work."""
        while (
            self.state in (GroupState.RUNNING, GroupState.RESCALING)
            and member.primary is not None
            and len(member.standbys) + member.building < self.config.replicas - 1
        ):
            member.building += 1
            primary, process = member.primary, None
            try:
                process = await self._start_process(
                    shard, self._partition, member.epoch, Role.STANDBY
                )
                await self._join_standby(shard, member, process)
            except Exception as error:
                log.warning("shard %d: no stand-by could be built: %s", shard, error)
                if process is not None:
                    ray.kill(process.handle, no_restart=True)
                if member.primary is primary:
                    await asyncio.sleep(1.0)  # try again, but not in a hot loop
            finally:
                member.building -= 1

    async def _join_standby(self, shard: int, member: _Member, process: _Process) -> None:
        primary = member.primary
        assert primary is not None
        member.joining.append(process)  # before it is told: `standby_lost` may come at once
        try:
            await primary.handle.add_standby.remote(process.name)
            joined = process in member.joining and member.primary is primary
        finally:
            if process in member.joining:
                member.joining.remove(process)
        if not joined:
            raise ParameterServerError(f"{process.name} was being copied to when it was lost")
        member.standbys.append(process)
        self._watch(shard, process)

    async def standby_lost(self, shard: int, name: str) -> None:
        """A shard goes on without a stand-by that failed: it must never be promoted."""
        await self._ready()
        member = self._members[shard]
        for processes in (member.standbys, member.joining):
            for process in [p for p in processes if p.name == name]:
                processes.remove(process)
                ray.kill(process.handle, no_restart=True)
        self._spawn(self._complete(shard, member))

    # Who asks where things are

    async def route(self, version: int = 0) -> Route:
        """Return how to reach the shards, of a partition of at least `version`."""
        await self._ready()
        await self._until(lambda: self._partition.version >= version, "a newer partition")
        return self._route()

    async def successor(self, shard: int, epoch: int) -> Route:
        """Return the route once another process than that of `epoch` speaks for `shard`.

        A shard that was removed is missing in it.

        Raises:
            ParameterServerError: nothing holds what the shard held.
        """
        await self._ready()

        def settled() -> bool:
            member = self._members.get(shard)
            gone = member is None or member.lost is not None
            return gone or (member.primary is not None and member.epoch > epoch)  # type: ignore[union-attr]

        await self._until(settled, f"shard {shard} to be replaced")
        member = self._members.get(shard)
        if member is not None and member.lost is not None:
            raise ParameterServerError(
                f"parameter server group {self.config.name!r}, shard {shard} is gone, {member.lost}"
            )
        return self._route()

    def _route(self) -> Route:
        primaries = {
            shard: (member.epoch, member.primary.handle)
            for shard, member in self._members.items()
            if member.primary is not None
        }
        return Route(self.config, self._partition, primaries)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        limit = self.config.failover_timeout_s
        try:
            async with asyncio.timeout(limit), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise ParameterServerError(
                f"parameter server group {self.config.name!r}: waited failover_timeout_s = "
                f"{limit:g} s for {what}"
            ) from None

    # Operations

    async def rescale(self, num_shards: int) -> None:
        """Change the number of shards; see `weiml.ps.rescale`."""
        await self._ready()
        Partition(num_shards, self.config.num_buckets)  # its errors name the knob
        async with self._busy:
            if num_shards == self._partition.num_shards:
                return
            self.state = GroupState.RESCALING
            try:
                await rescale(
                    _Peers(self),
                    self._partition,
                    num_shards,
                    barrier=self.config.staleness is not None,
                    timeout_s=self.config.wait_timeout_s,
                )
            finally:
                self.state = GroupState.RUNNING

    async def checkpoint(self, full: bool = False) -> str:
        """Take the next checkpoint below `checkpoint_root`; return its path."""
        await self._ready()
        if self._checkpoints is None:
            raise ParameterServerError(
                f"parameter server group {self.config.name!r} has no checkpoint_root; give one at "
                f"its creation, or save to a path"
            )
        async with self._busy:
            return await self._checkpoint(full)

    async def _checkpoint(self, full: bool) -> str:
        assert self._checkpoints is not None
        self._checkpointed_at = time.monotonic()
        version = self._partition.version
        return await self._checkpoints.take(self._ask_shards, full=full, version=version)

    async def save(self, path: str) -> None:
        """Write a full checkpoint to a path of its own."""
        await self._ready()
        async with self._busy:
            await save_path(path, self.config.num_buckets, self._ask_shards)

    async def load(self, path: str) -> None:
        """Replace the content of all shards by a checkpoint's."""
        await self._ready()
        async with self._busy:
            await load_path(path, self._ask_shards)

    async def _ask_shards(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard's process, side by side."""
        shards = range(self._partition.num_shards)
        return list(
            await asyncio.gather(*(self.ask_process(s, method, *arguments) for s in shards))
        )

    async def ask_process(self, shard: int, method: str, *arguments: Any) -> Any:
        """Call a method of the process that speaks for a shard, whoever that is by then."""
        deadline = time.monotonic() + self.config.failover_timeout_s
        while True:
            member = self._members[shard]
            if member.lost is not None:
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r}, shard {shard} is gone, "
                    f"{member.lost}"
                )
            if member.primary is not None:
                try:
                    return await getattr(member.primary.handle, method).remote(*arguments)
                except (RayActorError, DeposedError):
                    pass
                except RayTaskError as error:
                    if isinstance(error.cause, WeimlError):
                        raise error.cause from None
                    if not isinstance(error.cause, DeposedError):
                        raise
            if time.monotonic() > deadline:
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r}, shard {shard} did not come back "
                    f"within failover_timeout_s = {self.config.failover_timeout_s:g} s"
                )
            await asyncio.sleep(_LOST_POLL_S)

    async def declare_dead(self, worker: int) -> None:
        """Take a worker out of the clock."""
        await self._ready()
        self._workers.pop(worker, None)
        await self._ask_shards("call", "declare_dead", worker)
        log.warning("worker %d was declared dead", worker)

    async def status(self) -> dict[str, Any]:
        """Return what the coordinator knows; the shards' own counts are theirs to tell."""
        await self._ready()
        return {
            "state": self.state.value,
            "pid": os.getpid(),
            "version": self._partition.version,
            "replicas": self.config.replicas,
            "failovers": sum(member.failovers for member in self._members.values()),
            "restores": sum(member.restores for member in self._members.values()),
            "degraded": [s for s, m in self._members.items() if self._lacks(m)],
            "lost": {s: m.lost for s, m in self._members.items() if m.lost},
            "workers": sorted(self._workers),
            "checkpoint": self._checkpoints.last if self._checkpoints else None,
            "processes": self._pids(),
            "error": self._last_error,
        }

    async def _samples(self, lag_s: float) -> tuple[list[Sample], bool]:
        return group_samples(await self.status(), len(self._members)), False

    def _lacks(self, member: _Member) -> bool:
        return member.primary is None or len(member.standbys) < self.config.replicas - 1

    # Lease, workers, the end

    async def renew(
        self, owner: bool, workers: dict[int, tuple[int, str]], left: list[int]
    ) -> bool:
        """Hear from a process: whether it made the group, its workers, those that left.

        Returns whether the group goes on.
        """
        await self._ready()
        now = time.monotonic()
        if owner:
            self._owner_heard_at, self._owned = now, True
        for worker in left:
            self._workers.pop(worker, None)
            self._seen_workers.add(worker)
        for worker, (pid, node) in workers.items():
            self._workers[worker] = (now, pid, node)
            self._seen_workers.add(worker)
        return self.state not in (GroupState.ENDING, GroupState.ENDED)

    async def _supervise(self) -> None:
        while self.state not in (GroupState.ENDING, GroupState.ENDED):
            await asyncio.sleep(_SUPERVISE_S)
            try:
                await self._look()
            except Exception as error:
                self._last_error = str(error)
                log.exception("group %s", self.config.name)

    async def _look(self) -> None:
        now = time.monotonic()
        lease = self.config.lease_s
        if lease is not None and now - self._owner_heard_at > lease:
            log.warning(
                "the creator was last heard of %g s ago: ending", now - self._owner_heard_at
            )
            await self._end_by_itself()
            return
        for worker, (heard_at, pid, node) in list(self._workers.items()):
            limit = self.config.worker_timeout_s
            silent = limit is not None and now - heard_at > limit
            if silent or self._is_dead(pid, node):
                await self.declare_dead(worker)
        if self.config.end_when_done and await self._is_done():
            await self._end_by_itself()
            return
        interval = self.config.checkpoint_interval_s
        due = interval is not None and now - self._checkpointed_at > interval
        if due and not self._busy.locked() and self.state is GroupState.RUNNING:
            async with self._busy:
                await self._checkpoint(full=False)

    def _is_dead(self, pid: int, node: str) -> bool:
        here = ray.get_runtime_context().get_node_id()
        if node == here:
            return not is_running(pid)
        return False

    async def _is_done(self) -> bool:
        if self._workers or len(self._seen_workers) < self.config.num_workers:
            return False
        live = await self._ask_shards("call", "live_workers")
        return not any(live)

    async def _end_by_itself(self) -> None:
        await self.end()
        ray.actor.exit_actor()

    async def end(self, *, save: bool = True) -> list[tuple[int, str]]:
        """Save what `checkpoint_root` asks for and end the shards; return (pid, node) of all."""
        await self._ready()
        pids = self._pids()
        if self.state in (GroupState.ENDING, GroupState.ENDED):
            return pids
        async with self._busy:
            self.state = GroupState.ENDING
            if save and self._checkpoints is not None:
                try:
                    await self._checkpoint(full=True)
                except Exception as error:
                    self._last_error = str(error)
                    log.exception("group %s could not save at its end", self.config.name)
            self._kill_all()
            self.state = GroupState.ENDED
        return pids

    async def kill_all(self) -> None:
        """End all shards' processes at once, saving nothing."""
        self.state = GroupState.ENDED
        self._kill_all()

    def _pids(self) -> list[tuple[int, str]]:
        return [(p.pid, p.node) for m in self._members.values() for p in _processes(m)]

    def _kill_all(self) -> None:
        for name in self._all_names():
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)

    def _all_names(self) -> list[str]:
        return [
            shard_name(self.config.name, shard, number)
            for shard, last in self._numbers.items()
            for number in range(last + 1)
        ]

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Peers:
    """The shards as `weiml.ps.rescale` needs them."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def ask(self, shard: int, verb: str, *arguments: Any) -> Any:
        return await self._coordinator.ask_process(shard, "call", verb, *arguments)

    async def pass_on(
        self, source: int, verb: str, arguments: tuple[Any, ...], target: int, into: str
    ) -> None:
        # The reference is resolved by the target: rows do not pass through this process.
        member = self._coordinator._members[source]
        if member.primary is None:
            raise ParameterServerError(f"shard {source} was lost while its buckets moved")
        try:
            rows = member.primary.handle.call.remote(verb, *arguments)
            await self.ask(target, into, rows)
        except (RayActorError, RayTaskError) as error:
            raise ParameterServerError(
                f"shard {source} was lost while its buckets moved"
            ) from error

    async def start(self, shard: int, partition: Partition) -> None:
        await self._coordinator._start_member(shard, partition)

    async def stop(self, shard: int) -> None:
        coordinator = self._coordinator
        member = coordinator._members.pop(shard, None)
        for process in _processes(member) if member else ():
            ray.kill(process.handle, no_restart=True)
        async with coordinator._changed:
            coordinator._changed.notify_all()

    async def publish(self, partition: Partition) -> None:
        coordinator = self._coordinator
        coordinator._partition = partition
        async with coordinator._changed:
            coordinator._changed.notify_all()


async def _await(answer: Any) -> Any:
    return await answer


def _processes(member: _Member) -> list[_Process]:
    primary = [member.primary] if member.primary else []
    return primary + member.standbys + member.joining


def is_running(pid: int) -> bool:
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
