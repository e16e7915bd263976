"""The shards of a group of processes, as `weiml.ps.rescale` reaches them.

Whatever speaks for a shard by then is asked; it does not know what the questions mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ray.exceptions import RayActorError

from weiml.errors import ParameterServerError
from weiml.ps.partition import Partition
from weiml.ps.processes.failover import Failover
from weiml.ps.processes.members import LOST_POLL_S, Members
from weiml.ps.processes.shard_processes import ShardProcesses

__all__ = ["MemberPeers"]


class MemberPeers:
    """See `weiml.ps.rescale.Peers`. One for each rescale."""

    def __init__(self, members: Members, processes: ShardProcesses, failover: Failover) -> None:
        self._members = members
        self._processes = processes
        self._failover = failover
        self._restores = members.restores

    async def ask(self, shard: int, verb: str, *arguments: Any) -> Any:
        """Call a verb of a shard."""
        return await self._members.ask(shard, "call", verb, *arguments)

    async def pass_on(
        self, source: int, verb: str, arguments: tuple[Any, ...], target: int, into: str
    ) -> None:
        """Call `into` of shard `target` with what `verb` of shard `source` returns."""
        # The reference is resolved by the target: rows do not pass through this process.
        deadline = time.monotonic() + self._members.config.failover_timeout_s
        while True:
            member = self._members.by_shard[source]
            if member.primary is not None:
                with contextlib.suppress(RayActorError):
                    rows = member.primary.handle.call.remote(verb, *arguments)
                    await self.ask(target, into, rows)
                    return
            if member.lost is not None or time.monotonic() > deadline:
                raise ParameterServerError(f"shard {source} was lost while its buckets moved")
            await asyncio.sleep(LOST_POLL_S)

    async def start(self, shard: int, partition: Partition) -> None:
        """Start an empty shard, which the partition after `partition` brings."""
        await self._failover.start(shard, partition, partition.version + 1)

    async def stop(self, shard: int) -> None:
        """End a shard."""
        member = self._members.by_shard.pop(shard, None)
        if member is not None:
            member.primary = None
        self._processes.end_all_of(shard)
        await self._members.tell()

    async def decide(self, partition: Partition) -> None:
        """Be ready to go over: a shard restored from now on is one of the new partition.

        Raises:
            ParameterServerError: a shard lost what was copied to it.
        """
        if self._members.restores != self._restores:
            raise ParameterServerError(
                "a shard was restored from a checkpoint while buckets moved, and has lost what was "
                "copied to it; nothing has changed, ask for the rescale again"
            )
        self._members.decided = partition

    async def publish(self, partition: Partition) -> None:
        """Let clients know the new partition."""
        self._members.partition = partition
        await self._members.tell()
