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
from weiml.ps.checkpoint.chain import Chain
from weiml.ps.group_checkpoints import GroupCheckpoints, load_path, save_path
from weiml.ps.metrics import Exporter, Sample, group_samples
from weiml.ps.partition import Partition
from weiml.ps.rescale import finish, give_up, rescale

__all__ = ["Coordinator", "GroupState", "Route"]

_SUPERVISE_S = 0.25
_LOST_POLL_S = 0.02
_RESTORE_PAUSES_S = (1.0, 5.0)
_EPOCHS_A_VERSION = 1 << 20  # more processes than a shard ever has between two rescales

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
    born: dict[int, int]
    """Shard: the version of the partition that brought it."""


@dataclass(eq=False)
class _Process:
    name: str
    number: int
    handle: ActorHandle
    pid: int
    node: str
    dead: bool = False


@dataclass(eq=False)
class _Member:
    """One shard's processes."""

    primary: _Process | None = None
    epoch: int = 0
    """Ascending over all processes that spoke for a shard of this number."""
    standbys: list[_Process] = field(default_factory=list)
    """Those that have everything, fit to be promoted."""
    joining: list[_Process] = field(default_factory=list)
    """Those that are being copied to."""
    building: int = 0
    lost: str | None = None
    """Why nothing holds what the shard held."""
    failovers: int = 0
    restores: int = 0

    @property
    def born(self) -> int:
        return self.epoch // _EPOCHS_A_VERSION


@dataclass(frozen=True)
class _Worker:
    """A client that speaks for a worker, and the process that it lives in."""

    worker: int
    heard_at: float
    pid: int
    node: str


class Coordinator:
    """See the module. Coroutines of one event loop (an async actor)."""

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.state = GroupState.STARTING
        self._partition = Partition(config.num_shards, config.num_buckets)
        self._decided: Partition | None = None  # the next one, when there is no way back to this
        self._reconstructed = ray.get_runtime_context().was_current_actor_reconstructed
        self._members: dict[int, _Member] = {}
        self._numbers: dict[int, int] = {}
        self._lost_standbys: set[str] = set()
        self._changed = asyncio.Condition()
        self._starting = asyncio.Lock()
        self._busy = asyncio.Lock()  # one rescale, checkpoint or end at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner_heard_at = time.monotonic()
        self._owned = False
        self._workers: dict[str, _Worker] = {}  # by client
        self._finished: set[int] = set()
        self._checkpoints: GroupCheckpoints | None = None
        if config.checkpoint_root:
            self._checkpoints = GroupCheckpoints(config, asyncio.to_thread)
        self._checkpointed_at = time.monotonic()
        self._last_error: str | None = None

    # Start

    async def begin(self) -> Route:
        """Start all shards' processes; the group runs when this returns."""
        async with self._starting:
            if self.state is GroupState.STARTING:
                if self._reconstructed:  # it died before anybody knew of the group
                    for process, _ in await self._find_processes():
                        ray.kill(process.handle, no_restart=True)
                shards = range(self._partition.num_shards)
                try:
                    await asyncio.gather(*(self._start_member(s, self._partition) for s in shards))
                except BaseException:
                    self._kill_all()
                    raise
                self._run()
        return self._route()

    async def _start_member(self, shard: int, partition: Partition, born: int = 0) -> None:
        epoch = born * _EPOCHS_A_VERSION
        first, *others = await asyncio.gather(
            self._start_process(shard, partition, epoch, Role.PRIMARY),
            *(
                self._start_process(shard, partition, epoch, Role.STANDBY)
                for _ in range(self.config.replicas - 1)
            ),
        )
        member = _Member(primary=first, epoch=epoch)
        self._members[shard] = member
        self._watch(shard, first)
        for standby in others:
            await self._join_standby(member, standby)
            self._watch(shard, standby)

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
        nodes = _nodes()
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
            if self.state is GroupState.STARTING and self._reconstructed:
                await self._adopt(await self._find_processes())
                self._run()

    async def _find_processes(self) -> list[tuple[_Process, dict[str, Any]]]:
        prefix = f"{self.config.name}/shard-"
        names = [
            actor["name"]
            for actor in ray.util.list_named_actors(all_namespaces=True)
            if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)
        ]
        found = await asyncio.gather(*map(self._greet, names))
        return [pair for pair in found if pair is not None]

    async def _greet(self, name: str) -> tuple[_Process, dict[str, Any]] | None:
        """Return a process and what it says of itself; one that says nothing is ended."""
        try:
            handle = ray.get_actor(name, NAMESPACE)
        except ValueError:
            return None
        try:
            # It may be busy; taken for dead by mistake, it would go on beside its successor.
            limit = self.config.start_timeout_s
            hello = await asyncio.wait_for(_await(handle.start.remote()), limit)
        except (RayActorError, TimeoutError):
            ray.kill(handle, no_restart=True)
            return None
        return _Process(name, hello["number"], handle, hello["pid"], hello["node"]), hello

    async def _adopt(self, found: list[tuple[_Process, dict[str, Any]]]) -> None:
        by_shard: dict[int, list[tuple[_Process, dict[str, Any]]]] = {}
        for process, hello in found:
            by_shard.setdefault(hello["shard"], []).append((process, hello))
        partitions = [self._partition, *(hello["partition"] for _, hello in found)]
        self._partition = max(partitions, key=lambda partition: partition.version)
        known = range(max([self._partition.num_shards, *(shard + 1 for shard in by_shard)]))
        for shard in known:
            self._members[shard] = _Member()
        for shard in known:
            await self._adopt_member(shard, by_shard.get(shard, []))
        # A rescale may have been under way. Where one shard has gone over all have to.
        peers, shards = _Peers(self), range(self._partition.num_shards)
        gone = known[len(shards) :]
        count = sum([await peers.ask(shard, "mark") for shard in gone])
        with contextlib.suppress(ParameterServerError):  # of a lost shard
            await finish(peers, self._partition, known, count)
        await give_up(peers, shards)
        live = [await self.ask_process(s, "call", "live_workers") for s in shards if self._has(s)]
        self._finished = set(range(self.config.num_workers)).difference(*live)
        for shard in shards:
            self._spawn(self._complete(shard, self._members[shard]))

    def _has(self, shard: int) -> bool:
        return self._members[shard].primary is not None

    async def _adopt_member(self, shard: int, found: list[tuple[_Process, dict[str, Any]]]) -> None:
        member = self._members[shard]
        self._numbers[shard] = max((process.number for process, _ in found), default=-1)
        found = [(p, hello) for p, hello in found if p.name not in self._lost_standbys]
        primaries = [(p, h) for p, h in found if h["role"] == Role.PRIMARY.value]
        member.epoch = max((hello["epoch"] for _, hello in found), default=0)
        if primaries:
            primary, hello = max(primaries, key=lambda pair: pair[1]["epoch"])
            member.primary, member.epoch = primary, hello["epoch"]
            member.standbys = [p for p, _ in found if p.name in hello["standbys"]]
        else:  # it died while nobody looked
            member.standbys = [p for p, _ in found]
            await self._replace(shard, member)
        kept = _processes(member)
        for process, _ in found:
            if process not in kept:
                ray.kill(process.handle, no_restart=True)
        for process in kept:
            self._watch(shard, process)

    # Failures

    def _watch(self, shard: int, process: _Process) -> None:
        self._spawn(self._until_death(shard, process))

    async def _until_death(self, shard: int, process: _Process) -> None:
        with contextlib.suppress(RayActorError, RayTaskError):
            await process.handle.until_end.remote()
        process.dead = True
        member = self._members.get(shard)
        if member is None or self.state is GroupState.ENDED:
            return
        if process in member.standbys:
            member.standbys.remove(process)
            if member.primary is not None:
                with contextlib.suppress(RayActorError):
                    await member.primary.handle.drop_standby.remote(process.name)
        elif process is member.primary:
            ray.kill(process.handle, no_restart=True)
            await self._replace(shard, member)
        await self._complete(shard, member)

    async def _replace(self, shard: int, member: _Member) -> None:
        """Let a stand-by, or a process restored from a checkpoint, speak for the shard."""
        member.primary = None
        # One that was being copied to may have everything, and the shard died before it said so.
        joining = member.joining
        candidates = member.standbys + joining
        member.standbys, member.joining = [], []
        for process in candidates:
            if member.primary is None and await self._promote(process, member.epoch + 1):
                member.epoch += 1
                member.failovers += 1
                member.primary = process
                log.warning("shard %d: stand-by %s took over", shard, process.name)
                if process in joining:
                    self._watch(shard, process)
            else:  # the others have followed the process that is lost
                ray.kill(process.handle, no_restart=True)
        if member.primary is None:
            await self._restore(shard, member)
        elif member.primary.dead:
            await self._replace(shard, member)
        async with self._changed:
            self._changed.notify_all()

    async def _promote(self, process: _Process, epoch: int) -> bool:
        try:
            return bool(await process.handle.promote.remote(epoch))
        except RayActorError:
            return False

    async def _restore(self, shard: int, member: _Member) -> None:
        for pause_s in (*_RESTORE_PAUSES_S, None):
            try:
                await self._restore_once(shard, member)
                return
            except Exception as error:
                if pause_s is None:
                    member.lost = f"and could not be restored from the last checkpoint: {error}"
                    return
                # The storage may be out of reach, or a node just gone.
                log.exception("shard %d: not restored, trying again in %g s", shard, pause_s)
                await asyncio.sleep(pause_s)
                if self.state is GroupState.ENDED:
                    return

    async def _restore_once(self, shard: int, member: _Member) -> None:
        chain = None
        if self._checkpoints is not None:
            chain = await asyncio.to_thread(self._checkpoints.newest)
        if chain is None:
            member.lost = (
                f"and with it what it held since the last checkpoint: no stand-by was ready "
                f"(replicas = {self.config.replicas}) and there is no checkpoint below "
                f"checkpoint_root to restore it from. Close the group, start it again and load "
                f"a checkpoint; replicas = 2 keeps every acknowledged push"
            )
            return
        process = await self._restored(shard, member, chain)
        member.primary = process
        member.epoch += 1
        member.restores += 1
        self._watch(shard, process)
        log.warning("shard %d: restored from checkpoint %s", shard, chain.place)

    async def _restored(self, shard: int, member: _Member, chain: Chain) -> _Process:
        """Return a new process for a shard that has what a checkpoint says of its buckets."""
        while True:
            partition = self._decided or self._partition
            # No primary yet: a coordinator that starts again meanwhile would take it for restored.
            process = await self._start_process(shard, partition, member.epoch, Role.STANDBY)
            try:
                await process.handle.restore.remote(chain, await self._live(shard))
                await process.handle.promote.remote(member.epoch + 1)
            except BaseException:
                ray.kill(process.handle, no_restart=True)
                raise
            if partition is (self._decided or self._partition):
                return process
            ray.kill(process.handle, no_restart=True)  # its buckets are others by now

    async def _live(self, shard: int) -> list[int]:
        """Return the workers in the clock of another shard, or those that have not finished."""
        for other, member in self._members.items():
            if other != shard and member.primary is not None:
                with contextlib.suppress(RayActorError):
                    live = await member.primary.handle.call.remote("live_workers")
                    return list(live)
        return [w for w in range(self.config.num_workers) if w not in self._finished]

    async def _complete(self, shard: int, member: _Member) -> None:
        """Build the stand-bys that a shard lacks, in the background of its work."""
        while (
            self.state in (GroupState.RUNNING, GroupState.RESCALING)
            and self._members.get(shard) is member
            and member.primary is not None
            and len(member.standbys) + member.building < self.config.replicas - 1
        ):
            member.building += 1
            primary = member.primary
            try:
                process = await self._start_process(
                    shard, self._partition, member.epoch, Role.STANDBY
                )
                await self._join_standby(member, process)
                self._watch(shard, process)
            except Exception as error:
                log.warning("shard %d: no stand-by could be built: %s", shard, error)
                if member.primary is primary:
                    await asyncio.sleep(1.0)  # try again, but not in a hot loop
            finally:
                member.building -= 1

    async def _join_standby(self, member: _Member, process: _Process) -> None:
        """Let a shard copy itself to a stand-by and count that one among those fit to take over."""
        primary = member.primary
        if primary is None:
            ray.kill(process.handle, no_restart=True)
            raise ParameterServerError(f"there is nothing to copy to {process.name}")
        member.joining.append(process)  # before it is told: `standby_lost` may come at once
        try:
            await primary.handle.add_standby.remote(process.name)
        except BaseException as error:
            # If the shard died it may have told everything before: `_replace` sees to that.
            lost_shard = isinstance(error, RayActorError) and not isinstance(error, RayTaskError)
            if process in member.joining and not lost_shard:
                member.joining.remove(process)
                ray.kill(process.handle, no_restart=True)
            raise
        if process not in member.joining:
            raise ParameterServerError(f"{process.name} was being copied to when it was lost")
        member.joining.remove(process)
        member.standbys.append(process)

    async def standby_lost(self, shard: int, name: str) -> None:
        """A shard goes on without a stand-by that failed: it must never be promoted."""
        # Not after `_ready`: a coordinator that is just learning who is there waits for shards that
        # wait for this answer.
        self._lost_standbys.add(name)
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)
        member = self._members.get(shard)
        if member is None:
            return
        for processes in (member.standbys, member.joining):
            processes[:] = [process for process in processes if process.name != name]
        if self.state is not GroupState.STARTING:
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
            if member is None or member.lost is not None:
                return True
            return member.primary is not None and member.epoch > epoch

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
        born = {shard: member.born for shard, member in self._members.items()}
        return Route(self.config, self._partition, primaries, born)

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
                self._decided = None
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
        path = await self._checkpoints.take(self._ask_shards, full=full, version=version)
        self._last_error = None
        return path

    async def save(self, path: str) -> None:
        """Write a full checkpoint to a path of its own."""
        await self._ready()
        async with self._busy:
            await save_path(path, self.config.num_buckets, self._ask_shards, asyncio.to_thread)

    async def load(self, path: str) -> None:
        """Replace the content of all shards by a checkpoint's."""
        await self._ready()
        async with self._busy:
            await load_path(path, self._ask_shards, asyncio.to_thread)

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
                except RayTaskError as error:  # first: it is of its cause's class, too
                    if isinstance(error.cause, WeimlError):
                        raise error.cause from None
                    if not isinstance(error.cause, DeposedError):
                        raise
                except RayActorError:
                    pass
            if time.monotonic() > deadline:
                raise ParameterServerError(
                    f"parameter server group {self.config.name!r}, shard {shard} did not come back "
                    f"within failover_timeout_s = {self.config.failover_timeout_s:g} s"
                )
            await asyncio.sleep(_LOST_POLL_S)

    async def _declare_dead(self, client: str) -> None:
        worker = self._workers[client].worker
        await self._ask_shards("call", "declare_dead", worker, client)
        self._workers.pop(client, None)
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
            "workers": sorted({worker.worker for worker in self._workers.values()}),
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
        self, owner: bool, workers: dict[str, tuple[int, int, str]], left: dict[str, int]
    ) -> bool:
        """Hear from a process: whether it made the group, its workers' clients, those that left.

        Returns whether the group goes on.
        """
        await self._ready()
        now = time.monotonic()
        if owner:
            self._owner_heard_at = now
        for client, worker in left.items():
            self._workers.pop(client, None)
            self._finished.add(worker)
        for client, (worker, pid, node) in workers.items():
            self._workers[client] = _Worker(worker, now, pid, node)
            self._finished.discard(worker)
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
        limit = self.config.worker_timeout_s
        for client, worker in list(self._workers.items()):
            silent = limit is not None and now - worker.heard_at > limit
            if silent or self._is_dead(worker):
                await self._declare_dead(client)
        if self.config.end_when_done and await self._is_done():
            await self._end_by_itself()
            return
        interval = self.config.checkpoint_interval_s
        due = interval is not None and now - self._checkpointed_at > interval
        if due and not self._busy.locked() and self.state is GroupState.RUNNING:
            self._spawn(self._checkpoint_by_clock())

    async def _checkpoint_by_clock(self) -> None:
        assert self._checkpoints is not None
        async with self._busy:
            try:
                self._checkpointed_at = time.monotonic()
                marks = await self._ask_shards("call", "mark")
                if not self._checkpoints.covers(marks, self._partition.version):
                    await self._checkpoint(full=False)
            except Exception as error:
                self._last_error = str(error)
                log.exception("group %s could not take a checkpoint", self.config.name)

    def _is_dead(self, worker: _Worker) -> bool:
        if worker.node == ray.get_runtime_context().get_node_id():
            return not is_running(worker.pid)
        return worker.node not in _nodes()

    async def _is_done(self) -> bool:
        # One that died has not finished: it may be started again.
        if self._workers or len(self._finished) < self.config.num_workers:
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
                    # What is answered from here on would be in no checkpoint.
                    await self._ask_shards("call", "freeze")
                    await self._checkpoint(full=True)
                except Exception as error:
                    self._last_error = str(error)
                    log.exception("group %s could not save at its end", self.config.name)
            self.state = GroupState.ENDED
            self._kill_all()
        return pids

    async def kill_all(self) -> None:
        """End all shards' processes at once, saving nothing."""
        self.state = GroupState.ENDED
        self._kill_all()

    def _pids(self) -> list[tuple[int, str]]:
        return [(p.pid, p.node) for m in self._members.values() for p in _processes(m)]

    def _kill_all(self) -> None:
        for shard in self._numbers:
            self._kill(shard)

    def _kill(self, shard: int) -> None:
        """End all processes of a shard, those too that are just being started."""
        for number in range(self._numbers[shard] + 1):
            name = shard_name(self.config.name, shard, number)
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Peers:
    """The shards as `weiml.ps.rescale` needs them."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._restores = sum(member.restores for member in coordinator._members.values())

    async def ask(self, shard: int, verb: str, *arguments: Any) -> Any:
        return await self._coordinator.ask_process(shard, "call", verb, *arguments)

    async def pass_on(
        self, source: int, verb: str, arguments: tuple[Any, ...], target: int, into: str
    ) -> None:
        # The reference is resolved by the target: rows do not pass through this process.
        deadline = time.monotonic() + self._coordinator.config.failover_timeout_s
        while True:
            member = self._coordinator._members[source]
            if member.primary is not None:
                with contextlib.suppress(RayActorError):
                    rows = member.primary.handle.call.remote(verb, *arguments)
                    await self.ask(target, into, rows)
                    return
            if member.lost is not None or time.monotonic() > deadline:
                raise ParameterServerError(f"shard {source} was lost while its buckets moved")
            await asyncio.sleep(_LOST_POLL_S)

    async def start(self, shard: int, partition: Partition) -> None:
        await self._coordinator._start_member(shard, partition, partition.version + 1)

    async def stop(self, shard: int) -> None:
        coordinator = self._coordinator
        member = coordinator._members.pop(shard, None)
        if member is not None:
            member.primary = None
        coordinator._kill(shard)
        async with coordinator._changed:
            coordinator._changed.notify_all()

    async def decide(self, partition: Partition) -> None:
        members = self._coordinator._members.values()
        if sum(member.restores for member in members) != self._restores:
            raise ParameterServerError(
                "a shard was restored from a checkpoint while buckets moved, and has lost what was "
                "copied to it; nothing has changed, ask for the rescale again"
            )
        self._coordinator._decided = partition

    async def publish(self, partition: Partition) -> None:
        coordinator = self._coordinator
        coordinator._partition = partition
        async with coordinator._changed:
            coordinator._changed.notify_all()


def _nodes() -> list[str]:
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


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
