"""One process a group that sees to it that somebody speaks for each shard, and says who.

It has the shards' processes started and replaced (`failover`), moves buckets, takes
checkpoints, and ends the group when its work is done or its creator is gone. It handles no rows and
no pushes. When it dies itself, Ray starts it again and it learns from the shards what it needs;
nobody waits for it but those who lost a shard meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable
from typing import Any

import ray

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig
from weiml.ps.functions.registry import load_function_modules
from weiml.ps.group_checkpoints import GroupCheckpoints, load_path, save_path
from weiml.ps.metrics.exporter import Exporter, Sample, group_samples
from weiml.ps.partition import Partition
from weiml.ps.processes.failover import Failover
from weiml.ps.processes.leases import Leases
from weiml.ps.processes.members import GroupState, Members, Route
from weiml.ps.processes.rescale_peers import MemberPeers
from weiml.ps.processes.shard_processes import ShardProcesses
from weiml.ps.rescale import finish, give_up, rescale

__all__ = ["Coordinator"]

_SUPERVISE_S = 0.25
_END = (GroupState.ENDING, GroupState.ENDED)

log = logging.getLogger(__name__)


class Coordinator:
    """See the module. Coroutines of one event loop (an async actor)."""

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self._reconstructed = ray.get_runtime_context().was_current_actor_reconstructed
        self._starting = asyncio.Lock()
        self._busy = asyncio.Lock()  # one rescale, checkpoint or end at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases = Leases(config)
        self._checkpoints: GroupCheckpoints | None = None
        if config.checkpoint_root:
            self._checkpoints = GroupCheckpoints(config, asyncio.to_thread)
        self._checkpointed_at = time.monotonic()
        self._members = Members(config)
        self._processes = ShardProcesses(self._members)
        self._failover = Failover(
            self._members,
            self._processes,
            self._checkpoints,
            self._leases.unfinished,
            self._spawn,
        )
        self._last_error: str | None = None

    @property
    def state(self) -> GroupState:
        """Where the group is in its life."""
        return self._members.state

    # Start

    async def begin(self) -> Route:
        """Start all shards' processes; the group runs when this returns."""
        async with self._starting:
            if self.state is GroupState.STARTING:
                if self._reconstructed:  # it died before anybody knew of the group
                    for process, _ in await self._processes.find():
                        self._processes.end(process)
                # Here first: an error of this process is told, one of a process that is gone not.
                load_function_modules(self.config.function_modules)
                members = self._members
                starts = (self._failover.start(s, members.partition) for s in members.shards)
                try:
                    await asyncio.gather(*starts)
                except BaseException:
                    self._processes.end_all()
                    raise
                self._run()
        return self._members.route()

    def _run(self) -> None:
        self._members.state = GroupState.RUNNING
        self._spawn(self._supervise())
        self._spawn(Exporter(self.config.name).run(self._samples))

    async def _ready(self) -> None:
        """After a restart: learn from the shards that run what the group is."""
        async with self._starting:
            if self.state is GroupState.STARTING and self._reconstructed:
                known = await self._failover.adopt(await self._processes.find())
                await self._take_up(known)
                self._run()

    async def _take_up(self, known: range) -> None:
        # A rescale may have been under way. Where one shard has gone over all have to.
        members, peers = self._members, self._peers()
        shards = members.shards
        gone = known[len(shards) :]
        count = sum([await peers.ask(shard, "mark") for shard in gone])
        with contextlib.suppress(ParameterServerError):  # of a lost shard
            await finish(peers, members.partition, known, count)
        await give_up(peers, shards)
        there = (s for s in shards if members.by_shard[s].primary is not None)
        self._leases.set_unfinished([await peers.ask(s, "live_workers") for s in there])
        for shard in shards:
            self._failover.complete(shard)

    def _peers(self) -> MemberPeers:
        return MemberPeers(self._members, self._processes, self._failover)

    async def standby_lost(self, shard: int, name: str) -> None:
        """A shard goes on without a stand-by that failed: it must never be promoted."""
        # Not after `_ready`: a coordinator that is just learning who is there waits for shards that
        # wait for this answer.
        await self._failover.standby_lost(shard, name)

    # Who asks where things are

    async def route(self, version: int = 0) -> Route:
        """Return how to reach the shards, of a partition of at least `version`."""
        await self._ready()
        await self._members.until_version(version)
        return self._members.route()

    async def successor(self, shard: int, epoch: int) -> Route:
        """Return the route once another process than that of `epoch` speaks for `shard`.

        A shard that was removed is missing in it.

        Raises:
            ParameterServerError: nothing holds what the shard held.
        """
        await self._ready()
        await self._members.until_succeeded(shard, epoch)
        return self._members.route()

    async def status(self) -> dict[str, Any]:
        """Return what the coordinator knows; the shards' own counts are theirs to tell."""
        await self._ready()
        return {
            **self._members.status(),
            "pid": os.getpid(),
            "workers": self._leases.workers(),
            "checkpoint": self._checkpoints.last if self._checkpoints else None,
            "error": self._last_error,
        }

    async def _samples(self, lag_s: float) -> tuple[list[Sample], bool]:
        return group_samples(await self.status(), len(self._members.by_shard)), False

    # Operations

    async def rescale(self, num_shards: int) -> None:
        """Change the number of shards; see `weiml.ps.rescale`."""
        await self._ready()
        Partition(num_shards, self.config.num_buckets)  # its errors name the knob
        members = self._members
        async with self._busy:
            if num_shards == members.partition.num_shards:
                return
            members.state = GroupState.RESCALING
            try:
                await rescale(
                    self._peers(),
                    members.partition,
                    num_shards,
                    barrier=self.config.staleness is not None,
                    timeout_s=self.config.wait_timeout_s,
                )
            finally:
                members.decided = None
                members.state = GroupState.RUNNING

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
        version = self._members.partition.version
        path = await self._checkpoints.take(self._members.ask_all, full=full, version=version)
        self._last_error = None
        return path

    async def save(self, path: str) -> None:
        """Write a full checkpoint to a path of its own."""
        await self._ready()
        async with self._busy:
            buckets = self.config.num_buckets
            await save_path(path, buckets, self._members.ask_all, asyncio.to_thread)

    async def load(self, path: str) -> None:
        """Replace the content of all shards by a checkpoint's."""
        await self._ready()
        async with self._busy:
            await load_path(path, self._members.ask_all, asyncio.to_thread)

    # Lease, workers, the end

    async def renew(
        self, owner: bool, workers: dict[str, tuple[int, int, str]], left: dict[str, int]
    ) -> bool:
        """Hear from a process: whether it made the group, its workers' clients, those that left.

        Returns whether the group goes on.
        """
        await self._ready()
        self._leases.renew(owner, workers, left)
        return self.state not in _END

    async def _supervise(self) -> None:
        while self.state not in _END:
            await asyncio.sleep(_SUPERVISE_S)
            try:
                await self._look()
            except Exception as error:
                self._last_error = str(error)
                log.exception("group %s", self.config.name)

    async def _look(self) -> None:
        now = time.monotonic()
        silence = self._leases.overdue(now)
        if silence is not None:
            log.warning("the creator was last heard of %g s ago: ending", silence)
            await self._end_by_itself()
            return
        for client in self._leases.gone(now):
            await self._declare_dead(client)
        if self.config.end_when_done and await self._is_done():
            await self._end_by_itself()
            return
        interval = self.config.checkpoint_interval_s
        due = interval is not None and now - self._checkpointed_at > interval
        if due and not self._busy.locked() and self.state is GroupState.RUNNING:
            self._spawn(self._checkpoint_by_clock())

    async def _declare_dead(self, client: str) -> None:
        worker = self._leases.worker(client)
        await self._members.ask_all("call", "declare_dead", worker, client)
        self._leases.forget(client)
        log.warning("worker %d was declared dead", worker)

    async def _checkpoint_by_clock(self) -> None:
        assert self._checkpoints is not None
        async with self._busy:
            try:
                self._checkpointed_at = time.monotonic()
                marks = await self._members.ask_all("call", "mark")
                if not self._checkpoints.covers(marks, self._members.partition.version):
                    await self._checkpoint(full=False)
            except Exception as error:
                self._last_error = str(error)
                log.exception("group %s could not take a checkpoint", self.config.name)

    async def _is_done(self) -> bool:
        if not self._leases.all_finished():
            return False
        live = await self._members.ask_all("call", "live_workers")
        return not any(live)

    async def _end_by_itself(self) -> None:
        await self.end()
        ray.actor.exit_actor()

    async def end(self, *, save: bool = True) -> list[tuple[int, str]]:
        """Save what `checkpoint_root` asks for and end the shards; return (pid, node) of all."""
        await self._ready()
        pids = self._members.pids()
        if self.state in _END:
            return pids
        async with self._busy:
            self._members.state = GroupState.ENDING
            if save and self._checkpoints is not None:
                try:
                    # What is answered from here on would be in no checkpoint.
                    await self._members.ask_all("call", "freeze")
                    await self._checkpoint(full=True)
                except Exception as error:
                    self._last_error = str(error)
                    log.exception("group %s could not save at its end", self.config.name)
            self._end_at_once()
        return pids

    async def kill_all(self) -> None:
        """End all shards' processes at once, saving nothing."""
        self._end_at_once()

    def _end_at_once(self) -> None:
        self._members.state = GroupState.ENDED
        self._processes.end_all()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
