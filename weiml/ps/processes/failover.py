"""How a shard gets, keeps and gets back its processes: the hands of the coordinator.

A shard is started with its stand-bys. When the process that speaks for it is lost, a stand-by is
promoted, or where none is ready a new process is restored from the last checkpoint; then the
stand-bys that it lacks are built. It knows no clients and moves no buckets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ray.exceptions import RayActorError, RayTaskError

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.chain import Chain
from weiml.ps.group_checkpoints import GroupCheckpoints
from weiml.ps.partition import Partition
from weiml.ps.processes.actors import Role
from weiml.ps.processes.members import GroupState, Member, Members, Process, first_epoch
from weiml.ps.processes.shard_processes import Found, ShardProcesses

__all__ = ["Failover"]

_RESTORE_PAUSES_S = (1.0, 5.0)

log = logging.getLogger(__name__)


class Failover:
    """Sees to it that somebody speaks for each of `members`; coroutines of one event loop.

    `unfinished` returns the workers that have not finished, `spawn` runs work beside.
    """

    def __init__(
        self,
        members: Members,
        processes: ShardProcesses,
        checkpoints: GroupCheckpoints | None,
        unfinished: Callable[[], list[int]],
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._config = members.config
        self._members = members
        self._processes = processes
        self._checkpoints = checkpoints
        self._unfinished = unfinished
        self._spawn = spawn
        self._lost_standbys: set[str] = set()

    # Start

    async def start(self, shard: int, partition: Partition, born: int = 0) -> None:
        """Start a shard with its stand-bys; a partition of version `born` brings it."""
        epoch = first_epoch(born)
        first, *others = await asyncio.gather(
            self._processes.start(shard, partition, epoch, Role.PRIMARY),
            *(
                self._processes.start(shard, partition, epoch, Role.STANDBY)
                for _ in range(self._config.replicas - 1)
            ),
        )
        member = Member(primary=first, epoch=epoch)
        self._members.by_shard[shard] = member
        self._watch(shard, first)
        for standby in others:
            await self._join_standby(member, standby)
            self._watch(shard, standby)

    async def adopt(self, found: list[Found]) -> range:
        """Learn from the processes that run, after a restart, who speaks for which shard.

        Returns:
            All shards that are there, those too that a rescale adds or removes.
        """
        members = self._members
        by_shard: dict[int, list[Found]] = {}
        for process, hello in found:
            by_shard.setdefault(hello["shard"], []).append((process, hello))
        partitions = [members.partition, *(hello["partition"] for _, hello in found)]
        members.partition = max(partitions, key=lambda partition: partition.version)
        known = range(max([members.partition.num_shards, *(shard + 1 for shard in by_shard)]))
        for shard in known:
            members.by_shard[shard] = Member()
        for shard in known:
            await self._adopt_member(shard, by_shard.get(shard, []))
        return known

    async def _adopt_member(self, shard: int, found: list[Found]) -> None:
        member = self._members.by_shard[shard]
        self._processes.count_from(shard, found)
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
        kept = member.processes
        for process, _ in found:
            if process not in kept:
                self._processes.end(process)
        for process in kept:
            self._watch(shard, process)

    # Failures

    def _watch(self, shard: int, process: Process) -> None:
        self._spawn(self._until_death(shard, process))

    async def _until_death(self, shard: int, process: Process) -> None:
        with contextlib.suppress(RayActorError, RayTaskError):
            await process.handle.until_end.remote()
        process.dead = True
        member = self._members.by_shard.get(shard)
        if member is None or self._members.state is GroupState.ENDED:
            return
        if process in member.standbys:
            member.standbys.remove(process)
            if member.primary is not None:
                with contextlib.suppress(RayActorError):
                    await member.primary.handle.drop_standby.remote(process.name)
        elif process is member.primary:
            self._processes.end(process)
            await self._replace(shard, member)
        await self._complete(shard, member)

    async def _replace(self, shard: int, member: Member) -> None:
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
                self._processes.end(process)
        if member.primary is None:
            await self._restore(shard, member)
        elif member.primary.dead:
            await self._replace(shard, member)
        await self._members.tell()

    async def _promote(self, process: Process, epoch: int) -> bool:
        try:
            return bool(await process.handle.promote.remote(epoch))
        except RayActorError:
            return False

    async def standby_lost(self, shard: int, name: str) -> None:
        """Never promote a stand-by that failed: its shard goes on without it."""
        self._lost_standbys.add(name)
        self._processes.end_named(name)
        member = self._members.by_shard.get(shard)
        if member is None:
            return
        for processes in (member.standbys, member.joining):
            processes[:] = [process for process in processes if process.name != name]
        if self._members.state is not GroupState.STARTING:
            self.complete(shard)

    # From a checkpoint

    async def _restore(self, shard: int, member: Member) -> None:
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
                if self._members.state is GroupState.ENDED:
                    return

    async def _restore_once(self, shard: int, member: Member) -> None:
        chain = None
        if self._checkpoints is not None:
            chain = await asyncio.to_thread(self._checkpoints.newest)
        if chain is None:
            member.lost = (
                f"and with it what it held since the last checkpoint: no stand-by was ready "
                f"(replicas = {self._config.replicas}) and there is no checkpoint below "
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

    async def _restored(self, shard: int, member: Member, chain: Chain) -> Process:
        """Return a new process for a shard that has what a checkpoint says of its buckets."""
        while True:
            partition = self._members.coming
            # No primary yet: a coordinator that starts again meanwhile would take it for restored.
            process = await self._processes.start(shard, partition, member.epoch, Role.STANDBY)
            try:
                await process.handle.restore.remote(chain, await self._live(shard))
                await process.handle.promote.remote(member.epoch + 1)
            except BaseException:
                self._processes.end(process)
                raise
            if partition is self._members.coming:
                return process
            self._processes.end(process)  # its buckets are others by now

    async def _live(self, shard: int) -> list[int]:
        """Return the workers in the clock of another shard, or those that have not finished."""
        for other, member in self._members.by_shard.items():
            if other != shard and member.primary is not None:
                with contextlib.suppress(RayActorError):
                    live = await member.primary.handle.call.remote("live_workers")
                    return list(live)
        return self._unfinished()

    # Stand-bys

    def complete(self, shard: int) -> None:
        """Begin to build the stand-bys that a shard lacks, in the background of its work."""
        self._spawn(self._complete(shard, self._members.by_shard[shard]))

    async def _complete(self, shard: int, member: Member) -> None:
        while (
            self._members.state in (GroupState.RUNNING, GroupState.RESCALING)
            and self._members.by_shard.get(shard) is member
            and member.primary is not None
            and len(member.standbys) + member.building < self._config.replicas - 1
        ):
            member.building += 1
            primary = member.primary
            try:
                process = await self._processes.start(
                    shard, self._members.partition, member.epoch, Role.STANDBY
                )
                await self._join_standby(member, process)
                self._watch(shard, process)
            except Exception as error:
                log.warning("shard %d: no stand-by could be built: %s", shard, error)
                if member.primary is primary:
                    await asyncio.sleep(1.0)  # try again, but not in a hot loop
            finally:
                member.building -= 1

    async def _join_standby(self, member: Member, process: Process) -> None:
        """Let a shard copy itself to a stand-by and count that one among those fit to take over."""
        primary = member.primary
        if primary is None:
            self._processes.end(process)
            raise ParameterServerError(f"there is nothing to copy to {process.name}")
        member.joining.append(process)  # before it is told: `standby_lost` may come at once
        try:
            await primary.handle.add_standby.remote(process.name)
        except BaseException as error:
            # If the shard died it may have told everything before: `_replace` sees to that.
            lost_shard = isinstance(error, RayActorError) and not isinstance(error, RayTaskError)
            if process in member.joining and not lost_shard:
                member.joining.remove(process)
                self._processes.end(process)
            raise
        if process not in member.joining:
            raise ParameterServerError(f"{process.name} was being copied to when it was lost")
        member.joining.remove(process)
        member.standbys.append(process)
