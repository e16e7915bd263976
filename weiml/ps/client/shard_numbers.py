"""How far a client is with each shard of a partition: what its next request there is numbered.

It sends nothing; what a number means is said in `weiml.ps.shard.transfer.Stamp`.
"""

from __future__ import annotations

from collections.abc import Callable

from weiml.ps.partition import Partition

__all__ = ["ShardNumbers"]


class ShardNumbers:
    """A client's numbers, one of each kind a shard; a worker begins at the shards' `ticks`."""

    def __init__(self, partition: Partition, ticks: list[int]) -> None:
        self.partition = partition
        self.seqs = [0] * partition.num_shards
        """Writes that were sent."""
        self.ticks = ticks
        """Ticks that were sent."""
        self.ticks_acknowledged = list(ticks)
        self.epochs: dict[int, int] = {}
        """Of the processes that know what this client has done."""
        self._lost: dict[int, list[tuple[int, int]]] = {}  # by shard, writes after … up to …

    def go_over(self, partition: Partition, born: Callable[[int], int]) -> None:
        """Take a newer partition; what the client knows of shards that it adds begins here.

        ``born(shard)`` is the version of the partition that brought a shard.
        """
        before, self.partition = self.partition, partition
        shards = range(partition.num_shards)
        # A shard that was removed and added again since is another one.
        old = shards[: before.num_shards]
        known = {shard for shard in old if born(shard) <= before.version}
        tick, acknowledged = self.ticks[0], self.ticks_acknowledged[0]
        self.seqs = [self.seqs[s] if s in known else 0 for s in shards]
        self.ticks = [self.ticks[s] if s in known else tick for s in shards]
        self.ticks_acknowledged = [
            self.ticks_acknowledged[s] if s in known else acknowledged for s in shards
        ]
        self.epochs = {s: epoch for s, epoch in self.epochs.items() if s in known}
        self._lost = {s: lost for s, lost in self._lost.items() if s in known}

    def lose(self, shard: int, done: int, lost: int) -> int:
        """Note that the last `lost` of `done` writes are lost; return how many of them are new."""
        first = done - lost
        before = self._lost.get(shard, [])
        counted = sum(max(0, stop - max(start, first)) for start, stop in before)
        kept = [(start, min(stop, first)) for start, stop in before if start < first]
        self._lost[shard] = [*kept, (first, done)]
        return lost - counted
