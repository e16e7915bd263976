"""Moving buckets to other shards while training goes on.

1. Rows are copied while they are trained; what changes meanwhile is remembered by the change logs.
2. With a staleness bound, workers run on to one tick, the barrier, where each one's tick waits on
   every shard: then no push of theirs is on its way.
3. Shards freeze: no request acts. What changed since the copy follows, held pushes too.
4. All shards switch to the new partition and drop what moved away. Ticks at the barrier act; every
   other request that was cut by the old partition is refused, and its client cuts it again.

Until 4 begins, a failure thaws the shards and leaves all as it was; once it has begun it is brought
to its end, by `finish` where whoever began is no more. The logic is the same over both transports;
`Peers` reaches the shards, or the stand-bys that took over, which know where their shard was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.partition import Partition

__all__ = ["Peers", "finish", "give_up", "rescale"]

_BUCKETS_A_COPY = 16
_POLL_S = 0.005


class Peers(Protocol):
    """The shards of a group, as a rescale needs them."""

    async def ask(self, shard: int, verb: str, *arguments: Any) -> Any:
        """Call a method of a shard."""

    async def pass_on(
        self, source: int, verb: str, arguments: tuple[Any, ...], target: int, into: str
    ) -> None:
        """Call `into` of shard `target` with what `verb` of shard `source` returns."""

    async def start(self, shard: int, partition: Partition) -> None:
        """Start an empty shard, which `partition` gives no buckets."""

    async def stop(self, shard: int) -> None:
        """End a shard."""

    async def decide(self, partition: Partition) -> None:
        """Be ready to go over: a shard restored from now on is one of the new partition.

        Raises:
            ParameterServerError: a shard lost what was copied to it.
        """

    async def publish(self, partition: Partition) -> None:
        """Let clients know the new partition."""


async def rescale(
    peers: Peers, before: Partition, num_shards: int, *, barrier: bool, timeout_s: float
) -> Partition:
    """Go over to `num_shards` shards and return the new partition; see the module.

    Raises:
        ParameterServerError: the workers did not come to one tick within `timeout_s`, or a shard
            failed; then `before` is in force.
    """
    after = before.rescaled(num_shards)
    old, added = range(before.num_shards), range(before.num_shards, num_shards)
    removed = range(num_shards, before.num_shards)
    everyone = range(max(before.num_shards, num_shards))
    try:
        for shard in added:
            await peers.start(shard, before)
        moves = before.moves_to(after)
        marks = await _copy(peers, moves)
        if barrier:
            await _meet(peers, old, timeout_s)
        await _ask_all(peers, everyone, "freeze")
        await _catch_up(peers, moves, marks)
        if added:
            workers = await peers.ask(0, "workers")
            for shard in added:
                await peers.ask(shard, "set_workers", workers)
        # The sum of the shards' numbers must not fall when some of them go.
        count = sum([await peers.ask(shard, "mark") for shard in removed])
        for shard in removed:
            clients = await peers.ask(shard, "clients")
            await peers.ask(0, "retire", shard, after.version, clients)
        await peers.decide(after)
        # When one shard has gone over there is no way back, whoever dies.
        await peers.ask(0, "switch", after, count)
    except BaseException:
        await give_up(peers, old)
        for shard in added:
            await peers.stop(shard)
        raise
    await peers.publish(after)
    await finish(peers, after, everyone)
    return after


async def finish(peers: Peers, after: Partition, shards: range, count: int = 0) -> None:
    """Let all `shards` go over to a partition that is published; end those that it lacks.

    Raises:
        ParameterServerError: a shard is lost; the others have gone over.
    """
    errors = []
    for shard in shards:
        try:
            await peers.ask(shard, "switch", after, count if shard == 0 else 0)
        except ParameterServerError as error:
            errors.append(error)
    for shard in shards[after.num_shards :]:
        await peers.stop(shard)
    if errors:
        raise errors[0]


async def give_up(peers: Peers, shards: range) -> None:
    """Let shards go on as before a rescale, whether or how far it had come."""
    for shard in shards:
        try:
            await peers.ask(shard, "thaw")
        except ParameterServerError:
            continue  # it is gone, and with it what it was to forget


async def _copy(
    peers: Peers, moves: Sequence[tuple[int, int, np.ndarray]]
) -> dict[tuple[int, int], int]:
    """Copy all moving buckets; return how far each source was before its copy."""
    marks = {}
    for source, target, buckets in moves:
        marks[source, target] = await peers.ask(source, "mark")
        for first in range(0, len(buckets), _BUCKETS_A_COPY):
            some = buckets[first : first + _BUCKETS_A_COPY]
            await peers.pass_on(source, "export_buckets", (some,), target, "import_rows")
    return marks


async def _catch_up(
    peers: Peers,
    moves: Sequence[tuple[int, int, np.ndarray]],
    marks: dict[tuple[int, int], int],
) -> None:
    for source, target, buckets in moves:
        since = marks[source, target]
        changes = (since, buckets)
        await peers.pass_on(source, "export_changes", changes, target, "import_rows")


async def _meet(peers: Peers, shards: range, timeout_s: float) -> None:
    """Let all workers come to one tick."""
    margin = 1
    while True:
        ticks = [await peers.ask(shard, "latest_tick") for shard in shards]
        tick = max(ticks) + margin
        if all([await peers.ask(shard, "set_barrier", tick) for shard in shards]):
            break
        await _ask_all(peers, shards, "lift_barrier")
        margin *= 2  # the workers are faster than these questions
    deadline = time.monotonic() + timeout_s
    while True:
        missing = {w for s in shards for w in await peers.ask(s, "missing_at_barrier")}
        if not missing:
            return
        if time.monotonic() > deadline:
            raise ParameterServerError(
                f"rescaling waited wait_timeout_s = {timeout_s:g} s for workers "
                f"{sorted(missing)} to come to tick {tick}; nothing has changed. See why they do "
                f"not tick, finish their clients, or raise wait_timeout_s"
            )
        await asyncio.sleep(_POLL_S)


async def _ask_all(peers: Peers, shards: range, verb: str, *arguments: Any) -> None:
    for shard in shards:
        await peers.ask(shard, verb, *arguments)
