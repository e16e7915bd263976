"""Who speaks for each shard of a group, and in which partition: what its coordinator knows.

Whoever asks a shard, or waits until another process speaks for one, does it here. It starts and
ends no processes and decides nothing.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from weiml.errors import ParameterServerError, WeimlError
from weiml.ps.base import GroupConfig
from weiml.ps.partition import Partition
from weiml.ps.processes.actors import DeposedError

__all__ = ["LOST_POLL_S", "GroupState", "Member", "Members", "Process", "Route", "first_epoch"]

LOST_POLL_S = 0.02
"""How often is looked whether a lost shard is back."""
_EPOCHS_A_VERSION = 1 << 20  # more processes than a shard ever has between two rescales


class GroupState(enum.Enum):
    """Where a group is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESCALING = "rescaling"
    ENDING = "ending"
    ENDED = "ended"


def first_epoch(version: int) -> int:
    """Return the epoch of the first process of a shard that a partition's version brings."""
    return version * _EPOCHS_A_VERSION


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
class Process:
    """A shard's process, of which it has several over time."""

    name: str
    number: int
    handle: ActorHandle
    pid: int
    node: str
    dead: bool = False


@dataclass(eq=False)
class Member:
    """One shard's processes."""

    primary: Process | None = None
    epoch: int = 0
    """Ascending over all processes that spoke for a shard of this number."""
    standbys: list[Process] = field(default_factory=list)
    """Those that have everything, fit to be promoted."""
    joining: list[Process] = field(default_factory=list)
    """Those that are being copied to."""
    building: int = 0
    lost: str | None = None
    """Why nothing holds what the shard held."""
    failovers: int = 0
    restores: int = 0

    @property
    def born(self) -> int:
        """The version of the partition that brought the shard."""
        return self.epoch // _EPOCHS_A_VERSION

    @property
    def processes(self) -> list[Process]:
        """All of them, the one that speaks for the shard first."""
        primary = [self.primary] if self.primary else []
        return primary + self.standbys + self.joining


class Members:
    """All shards of a group; used from one event loop."""

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.state = GroupState.STARTING
        self.partition = Partition(config.num_shards, config.num_buckets)
        self.decided: Partition | None = None
        """The next partition, when there is no way back to this one."""
        self.by_shard: dict[int, Member] = {}
        self._changed = asyncio.Condition()

    @property
    def shards(self) -> range:
        """The shards of the partition in force."""
        return range(self.partition.num_shards)

    @property
    def coming(self) -> Partition:
        """The partition that a shard restored now is one of."""
        return self.decided or self.partition

    @property
    def restores(self) -> int:
        """How often a shard was restored from a checkpoint."""
        return sum(member.restores for member in self.by_shard.values())

    def pids(self) -> list[tuple[int, str]]:
        """Return (pid, node) of all processes."""
        return [(p.pid, p.node) for m in self.by_shard.values() for p in m.processes]

    def lacks(self, member: Member) -> bool:
        """Whether a shard has fewer processes than it should."""
        return member.primary is None or len(member.standbys) < self.config.replicas - 1

    def status(self) -> dict[str, Any]:
        """Return this part of `Coordinator.status`."""
        return {
            "state": self.state.value,
            "version": self.partition.version,
            "replicas": self.config.replicas,
            "failovers": sum(member.failovers for member in self.by_shard.values()),
            "restores": self.restores,
            "degraded": [s for s, m in self.by_shard.items() if self.lacks(m)],
            "lost": {s: m.lost for s, m in self.by_shard.items() if m.lost},
            "processes": self.pids(),
        }

    # Where things are

    def route(self) -> Route:
        """Return how the shards are reached now."""
        primaries = {
            shard: (member.epoch, member.primary.handle)
            for shard, member in self.by_shard.items()
            if member.primary is not None
        }
        born = {shard: member.born for shard, member in self.by_shard.items()}
        return Route(self.config, self.partition, primaries, born)

    async def tell(self) -> None:
        """Let those that wait for a change look again."""
        async with self._changed:
            self._changed.notify_all()

    async def until_version(self, version: int) -> None:
        """Wait for a partition of at least `version`."""
        await self._until(lambda: self.partition.version >= version, "a newer partition")

    async def until_succeeded(self, shard: int, epoch: int) -> None:
        """Wait until another process than that of `epoch` speaks for a shard, or it is removed.

        Raises:
            ParameterServerError: nothing holds what the shard held.
        """

        def settled() -> bool:
            member = self.by_shard.get(shard)
            if member is None or member.lost is not None:
                return True
            return member.primary is not None and member.epoch > epoch

        await self._until(settled, f"shard {shard} to be replaced")
        if shard in self.by_shard:
            self._check_not_lost(shard)

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

    def _check_not_lost(self, shard: int) -> None:
        lost = self.by_shard[shard].lost
        if lost is not None:
            raise ParameterServerError(
                f"parameter server group {self.config.name!r}, shard {shard} is gone, {lost}"
            )

    # Questions

    async def ask_all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard's process, side by side."""
        return list(await asyncio.gather(*(self.ask(s, method, *arguments) for s in self.shards)))

    async def ask(self, shard: int, method: str, *arguments: Any) -> Any:
        """Call a method of the process that speaks for a shard, whoever that is by then.

        Raises:
            ParameterServerError: the shard is lost, did not come back in time, or refused.
        """
        deadline = time.monotonic() + self.config.failover_timeout_s
        while True:
            self._check_not_lost(shard)
            primary = self.by_shard[shard].primary
            if primary is not None:
                try:
                    return await getattr(primary.handle, method).remote(*arguments)
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
            await asyncio.sleep(LOST_POLL_S)
