"""All that a shard knows: its rows, the clock, the clients, held pushes, where a rescale is.

A push comes to its tick and to its rows here, and what is held moves with buckets as rows do. The
order of requests is `weiml.ps.shard.shard`'s; who copies this to whom is not known here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from weiml.ps.base import GroupConfig
from weiml.ps.partition import Partition
from weiml.ps.shard.clock import Clock
from weiml.ps.shard.content import ShardContent
from weiml.ps.shard.held import HeldPushes
from weiml.ps.shard.rescale_state import ShardRescale
from weiml.ps.shard.transfer import Held, ShardRows
from weiml.ps.shard.writers import Writers
from weiml.ps.wire import KeyReceiver

__all__ = ["RESTORED", "ShardState"]

RESTORED = 1 << 32
"""A shard that was restored from a checkpoint counts its changes from beyond this much more."""


class ShardState(ShardContent):
    """`ShardContent` with what orders the writes to it."""

    def __init__(self, config: GroupConfig, index: int, partition: Partition | None = None) -> None:
        super().__init__(config, index, partition)
        self.clock = Clock(config.num_workers, config.staleness)
        self.writers = Writers()
        self.held = HeldPushes()
        self.rescale = ShardRescale()
        self.counts = dict.fromkeys(
            ("pulls", "pushes", "keys", "duplicates", "lost_writes", "dropped_pushes"), 0
        )
        self.expired: dict[str, tuple[str, int]] = {}
        """Table: the last request to expire its rows, and how many it removed."""
        self._key_lists = KeyReceiver()

    @property
    def where(self) -> str:
        """Which shard this is, in words."""
        return self._where

    @property
    def step(self) -> int:
        """What rows' last-seen statistic is counted in: ticks, or pushes where nobody ticks."""
        return max(self.clock.ticks, default=0) or self.sequence % RESTORED

    # Names

    def drop_vector(self, name: str) -> None:
        """Remove a vector, if there is one, and what is held for it."""

        def kept(push: Held) -> Held:
            gone = push.verb == "push_vector" and push.name == name
            return replace(push, keys=push.keys[:0]) if gone else push

        super().drop_vector(name)
        self.held.keep(kept)

    def expire(self, table: str, step: int, now_s: float, request: str = "") -> int:
        """Remove the rows that the table's expiry rule gives up; `step` 0 is the clock's.

        The last `request` of a table, asked again, gives the same answer and does nothing.
        """
        before, removed = self.expired.get(table, ("", 0))
        if not request or request != before:
            removed = super().expire(table, step or self.step, now_s)
            self.expired[table] = request, removed
        return removed

    # Pushes

    def release(self) -> None:
        """Apply the held pushes of every tick that all live workers have finished."""
        for push in self.held.release(self.clock.floor, self.clock.ticks):
            self.apply(push)

    def drop_held_of(self, worker: int) -> None:
        """Drop what a worker pushed in a tick that it will not end."""
        self.counts["dropped_pushes"] += self.held.drop(self.clock.ticks[worker], worker)

    def apply(self, push: Held) -> None:
        """Let a push act on its rows or numbers."""
        self.sequence += 1
        if push.verb == "push_vector":
            vector = self._vector(push.name)
            vector.add(np.asarray(push.values, np.float32), self.sequence, push.keys)
            return
        table = self._table(push.name)
        keys = np.require(push.keys, np.uint64, ["C", "W"])
        values = np.require(push.values, np.float32, ["C", "W"])
        if push.what == "differences":
            table.push_differences(keys, values, self.sequence, step=self.step)
        else:
            table.push_gradients(
                keys,
                values,
                self.sequence,
                counts=push.counts,
                squares=push.squares,
                step=self.step,
            )

    def forget_key_lists(self, clients: list[str]) -> None:
        """Take it that clients have sent no key lists."""
        for client in clients:
            self._key_lists.forget(client)

    # To and from other shards

    def import_rows(self, content: ShardRows) -> None:
        """Take over rows, numbers and held pushes."""
        super().import_rows(content)
        if content.buckets is not None:  # it may come twice
            self._drop_held_in(np.setdiff1d(content.buckets, self._buckets))
        for tick, worker, push in content.held:
            self.held.add(tick, worker, push)

    def export_changes(self, since: int, buckets: np.ndarray | None = None) -> ShardRows:
        """Return what changed after `since`; for a move, held pushes in `buckets` too."""
        content = super().export_changes(since, buckets)
        if buckets is None:
            return content
        parts = [(t, w, self._part(push, buckets)) for t, w, push in self.held.all()]
        held = tuple((t, w, part) for t, w, part in parts if len(part.keys))
        return replace(content, held=held)

    def forget_buckets(self, buckets: np.ndarray) -> None:
        """Drop what lies in `buckets`, parts of held pushes too."""
        super().forget_buckets(buckets)
        self._drop_held_in(buckets)

    def forget_arrivals(self) -> None:
        """Drop what came for buckets that do not come after all."""
        others = np.setdiff1d(np.arange(self.partition.num_buckets), self._buckets)
        self.forget_buckets(others.astype(np.int32))

    def take_over(self, content: ShardContent) -> None:
        """Hold just the tables and vectors of `content`, as created now."""
        self.tables, self.vectors = content.tables, content.vectors
        made = [("table", name) for name in self.tables]
        made += [("vector", name) for name in self.vectors]
        self.born = dict.fromkeys(made, self.sequence)
        self._arriving = {}

    def drop_others(self, content: ShardRows) -> None:
        """Drop tables and vectors that the sender of `content` does not have, or has anew."""
        anew = {made for made, at in self.born.items() if content.born.get(made) != at}
        for kind, name in anew:
            if kind == "table":
                self.tables.pop(name, None)
            else:
                self.vectors.pop(name, None)
                self._arriving.pop(name, None)

    # A rescale, step by step; see `weiml.ps.rescale`

    def set_barrier(self, tick: int) -> bool:
        """Let no worker tick beyond `tick`; False, and nothing, if one did already."""
        if any(t > tick for w, t in enumerate(self.clock.ticks) if self.clock.live[w]):
            return False
        self.rescale.set_barrier(tick)
        return True

    def latest_tick(self) -> int:
        """Return the number of ticks of the worker that is furthest."""
        return max(self.clock.ticks, default=0)

    def missing_at_barrier(self) -> list[int]:
        """Return the live workers whose tick has not arrived at the barrier."""
        live = [w for w in self.writers.owners if self.clock.live[w]]
        return [w for w in live if w not in self.rescale.arrived]

    def freeze(self) -> None:
        """Let no stamped request through until `switch` or `thaw`."""
        self.rescale.frozen = True

    @property
    def frozen(self) -> bool:
        """Whether no request may act."""
        return self.rescale.frozen

    def lift_barrier(self) -> None:
        """Let all workers tick on."""
        self.rescale.set_barrier(None)

    def thaw(self) -> None:
        """Go on after a rescale that was given up: forget what came for it."""
        self.forget_arrivals()
        self.rescale.give_up()

    def switch(self, partition: Partition, count: int = 0) -> None:
        """Go over to another partition, whose rows are here already; drop what lies elsewhere.

        Ticks that wait at the barrier are let through; what else was split by the old one gets
        `Moved` for an answer. `count` changes of shards that go are counted here from now on.
        """
        if partition.version == self.partition.version:
            return  # gone over already; or on its way to a later one, which `thaw` is to end
        self.set_partition(partition)
        self.sequence += 1 + count
        self.rescale.go_over()
        self.release()

    def workers(self) -> dict[str, Any]:
        """Return the clock and who speaks for whom, ticks that wait at a barrier counted."""
        ticks, live = list(self.clock.ticks), list(self.clock.live)
        for worker, (_, _, verb) in self.rescale.arrived.items():
            ticks[worker] += verb == "tick"
            live[worker] = live[worker] and verb == "tick"
        expired = {table: (request, 0) for table, (request, _) in self.expired.items()}
        return {
            "count": self.clock.count + sum(ticks) - sum(self.clock.ticks),
            "ticks": ticks,
            "live": live,
            "owners": dict(self.writers.owners),
            "expired": expired,
        }

    def live_workers(self) -> list[int]:
        """Return the workers in the clock."""
        return [worker for worker, live in enumerate(self.clock.live) if live]

    def set_live(self, live: list[int]) -> None:
        """Have just these workers in the clock, as a shard does that was restored."""
        self.clock.live = [worker in live for worker in range(self.config.num_workers)]

    def set_workers(self, workers: dict[str, Any]) -> None:
        """Take over what `workers` gave on another shard, as a new shard of the group does."""
        self.clock.ticks, self.clock.live = list(workers["ticks"]), list(workers["live"])
        self.clock.count = workers["count"]
        self.writers.owners = dict(workers["owners"])
        self.expired = dict(workers["expired"])

    def clients(self) -> dict[str, int]:
        """Return each client's last write."""
        return dict(self.writers.applied)

    def retire(self, shard: int, version: int, clients: dict[str, int]) -> None:
        """Remember the clients' last writes on a shard that goes at a version of the partition."""
        self.rescale.retire(shard, version, clients)

    def last_write(self, shard: int, version: int, client: str) -> int:
        """Return a client's last write on a shard of partition `version` that is no more."""
        return self.rescale.last_write(shard, version, client)

    # Inside

    def _drop_held_in(self, buckets: np.ndarray) -> None:
        if not (self.held and len(buckets)):
            return
        kept = np.setdiff1d(np.arange(self.partition.num_buckets), buckets)
        self.held.keep(lambda push: self._part(push, kept))

    def _part(self, push: Held, buckets: np.ndarray) -> Held:
        """Return the part of a push that lies in `buckets`."""
        if push.verb == "push":
            own = self._buckets_of(self.tables[push.name], push.keys)
        else:
            length = self.vectors[push.name].length
            own = self.partition.buckets_of(push.keys.astype(np.uint64), max(length, 1))
        chosen = np.isin(own, buckets)
        if chosen.all():
            return push
        return replace(
            push,
            keys=push.keys[chosen],
            values=push.values[chosen],
            counts=None if push.counts is None else push.counts[chosen],
            squares=None if push.squares is None else push.squares[chosen],
        )
