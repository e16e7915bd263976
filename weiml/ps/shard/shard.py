"""One shard: the requests to it, in the order that their clients and the clock ask for.

A plain synchronous class with one writer. It never waits: a transport asks `blocked` first and
calls `serve` when nothing holds the request up. It knows no other shard and no transport.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig, PullWhat, PushWhat
from weiml.ps.checkpoint.chain import Chain
from weiml.ps.checkpoint.parts import ShardPart, ShardRecord
from weiml.ps.checkpoint.shard_writer import write_shard
from weiml.ps.checkpoint.writer import CheckpointSpec
from weiml.ps.functions.registry import ShardView, find_function
from weiml.ps.partition import Partition
from weiml.ps.shard.content import ShardContent
from weiml.ps.shard.parts import InTurn, cut, read_content, run_now
from weiml.ps.shard.restoring import check_no_tick_under_way, control, put_in_force, restore
from weiml.ps.shard.state import ShardState
from weiml.ps.shard.transfer import Held, Stamp
from weiml.ps.shard.writers import MAX_CLIENTS
from weiml.ps.tables.dense import DenseTable
from weiml.ps.wire import SomeRows
from weiml.ps.wire.sender import encoded, read_rows, received, received_keys

__all__ = ["KEYED", "MOVING", "QUESTIONS", "READS", "WRITES", "Moved", "Shard", "UnknownKeys"]

READS = frozenset({"pull", "pull_vector", "call", "delta"})
"""Verbs that wait for the client's earlier writes and, for a worker, for the clock."""
WRITES = frozenset({"push", "push_vector", "push_statistics", "delete", "update", "tick", "finish"})
"""Verbs that wait for the client's earlier writes and act once per (client, seq)."""
KEYED = frozenset({"pull", "push"})  # their keys may come as the signature of a known list
MOVING = frozenset(
    {"create_table", "create_vector", "declare_dead", "drop_vector", "expire", "join"}
)
"""Verbs without a stamp that change what moves with buckets: they wait while a shard is frozen."""
QUESTIONS = frozenset(
    {"describe", "last_write", "latest_tick", "live_workers", "missing_at_barrier", "workers"}
)
"""Verbs without a stamp that change nothing, and whose answers need not outlive the process."""
_ENDS = frozenset({"tick", "finish"})


class Moved:
    """The answer to a request split by an older partition: nothing was done, split it again."""

    def __init__(self, version: int) -> None:
        self.version = version


class UnknownKeys:
    """The answer to a request whose keys came as a signature that the shard does not know."""


class Shard(ShardState):
    """Shard `index` of a group. Not thread-safe: one caller at a time."""

    def __init__(self, config: GroupConfig, index: int, partition: Partition | None = None) -> None:
        super().__init__(config, index, partition)
        self.observe: Callable[[str, np.ndarray], None] | None = None
        """Called with the table and the keys of each pull and push that is served."""
        self._staged: ShardContent | None = None

    # What holds a request up

    def blocked(self, verb: str, stamp: Stamp) -> str | None:
        """Return what the request waits for, in words, or None when it may go ahead."""
        write = verb in WRITES
        done = self.writers.last(stamp.client)
        if self.frozen:
            return "buckets that move to another shard"
        if self._is_stale(stamp) or (write and stamp.seq <= done):
            return None
        if done < stamp.seq - write:
            if not done:
                return (
                    f"request 1 of client {stamp.client}, which has not arrived, or was forgotten "
                    f"with the client after {MAX_CLIENTS} others wrote; make a new client"
                )
            return f"request {done + 1} of client {stamp.client}, which has not arrived"
        if verb in _ENDS:
            return self._at_barrier(verb, stamp)
        if write or verb == "delta" or stamp.worker is None:
            return None
        late = self.clock.waiting_for(stamp.tick)
        if not late:
            return None
        ticks = ", ".join(f"worker {w} (at tick {self.clock.ticks[w]})" for w in late)
        return (
            f"{ticks} to tick: worker {stamp.worker} reads at tick {stamp.tick} "
            f"with staleness = {self.config.staleness}"
        )

    def _is_stale(self, stamp: Stamp) -> bool:
        older = stamp.version < self.partition.version
        return older and not self.rescale.passes(stamp)

    def _at_barrier(self, verb: str, stamp: Stamp) -> str | None:
        barrier = self.rescale.barrier
        if barrier is None:
            return None
        worker = _worker(stamp)
        if verb == "tick" and self.clock.ticks[worker] < barrier:
            return None
        self.rescale.arrive(worker, stamp, verb)
        return f"the other workers to come to tick {barrier}, where buckets move"

    # Requests

    def arrived(self, verb: str, arguments: tuple[Any, ...]) -> tuple[Any, ...] | UnknownKeys:
        """Return a request's arguments with its keys written out, before anything holds it up.

        A client's key lists lean on those that it sent before, which may still wait for the clock.
        """
        if verb not in KEYED:
            return arguments
        stamp, table, keys, *rest = arguments
        known = received_keys(self._key_lists, stamp.client, keys)
        return UnknownKeys() if known is None else (stamp, table, known, *rest)

    def serve(self, verb: str, stamp: Stamp, *arguments: Any) -> Any:
        """Answer a stamped request that nothing blocks.

        Raises:
            ParameterServerError: the request does not fit what the shard holds, or its sender was
                declared dead.
        """
        if verb in WRITES and stamp.seq <= self.writers.last(stamp.client):
            self.counts["duplicates"] += 1
            return None
        if self._is_stale(stamp):
            return Moved(self.partition.version)
        if stamp.worker is not None and self.writers.owners.get(stamp.worker) != stamp.client:
            raise ParameterServerError(
                f"{self._where}: this client does not speak for worker {stamp.worker} any more: "
                f"the worker was declared dead or has another client; ask the server for a new "
                f"client({stamp.worker})"
            )
        if verb in KEYED and self.observe is not None:
            self.observe(arguments[0], arguments[1])
        if verb in WRITES:
            self.forget_key_lists(self.writers.count(stamp.client))
            self.rescale.has_passed(stamp)
        return getattr(self, f"_{verb}")(stamp, *arguments)

    def _pull(
        self,
        stamp: Stamp,
        table: str,
        keys: np.ndarray,
        what: PullWhat,
        code: str = "float32",
        omit_new: bool = False,
    ) -> Any:
        rows = self._table(table)
        self.counts["pulls"] += 1
        self.counts["keys"] += len(keys)
        if not omit_new or isinstance(rows, DenseTable):
            return encoded(read_rows(rows, keys, what), code)
        there = rows.locate(keys) != 0
        return SomeRows.of(encoded(read_rows(rows, keys[there], what), code), there)

    def _pull_vector(self, stamp: Stamp, name: str, places: np.ndarray | None = None) -> np.ndarray:
        self.counts["pulls"] += 1
        vector = self._vector(name)
        if places is None:
            return vector.values.copy()
        return vector.values[np.searchsorted(vector.places, places)]

    def _call(
        self,
        stamp: Stamp,
        function: str,
        keys: np.ndarray | None,
        buckets: np.ndarray | None,
        arguments: tuple[Any, ...],
    ) -> Any:
        given = arguments if keys is None else (arguments[0], keys, *arguments[1:])
        return find_function(function).run(self._view(buckets), *given)

    def _delta(self, stamp: Stamp, since: int, all_vectors: bool) -> dict[str, Any]:
        return self.delta_since(since, all_vectors=all_vectors)

    def _push(
        self,
        stamp: Stamp,
        table: str,
        keys: np.ndarray,
        values: Any,
        what: PushWhat,
        counts: Any = None,
        squares: Any = None,
    ) -> None:
        self._table(table)
        self.counts["pushes"] += 1
        self.counts["keys"] += len(keys)
        numbers = (received(values), what, _flat(received(counts)), received(squares))
        self._apply_or_hold(stamp, Held("push", table, keys, *numbers))

    def _push_vector(self, stamp: Stamp, name: str, places: np.ndarray | None, values: Any) -> None:
        vector = self._vector(name)
        self.counts["pushes"] += 1
        where = vector.places if places is None else places
        self._apply_or_hold(stamp, Held("push_vector", name, where, received(values)))

    def _push_statistics(
        self, stamp: Stamp, table: str, keys: np.ndarray, shows: np.ndarray, clicks: np.ndarray
    ) -> None:
        self.sequence += 1
        rows = self._sparse(table)
        rows.push_statistics(keys, shows, clicks, self.sequence, step=self.step)

    def _delete(self, stamp: Stamp, table: str, keys: np.ndarray) -> None:
        self.sequence += 1
        self._sparse(table).delete(keys, self.sequence)

    def _update(
        self,
        stamp: Stamp,
        function: str,
        keys: np.ndarray | None,
        buckets: np.ndarray | None,
        arguments: tuple[Any, ...],
    ) -> None:
        self.sequence += 1
        given = arguments if keys is None else (arguments[0], keys, *arguments[1:])
        find_function(function).run(self._view(buckets), *given)

    def _tick(self, stamp: Stamp) -> int:
        number = self.clock.tick(_worker(stamp))
        self.release()
        return number

    def _finish(self, stamp: Stamp) -> None:
        self.clock.finish(_worker(stamp))
        self._key_lists.forget(stamp.client)
        self.release()

    # Not ordered: set-up, status

    def join(self, worker: int, client: str) -> int:
        """Let `client` speak for `worker` in the clock from now on; return the worker's tick.

        What an earlier client of the worker pushed in a tick that it did not end is dropped.
        """
        owners = self.writers.owners
        before = owners.get(worker)
        if before not in (None, client):
            self.drop_held_of(worker)
            self._key_lists.forget(before)
        owners[worker] = client
        return self.clock.join(worker)

    def declare_dead(self, worker: int, client: str | None = None) -> None:
        """Take a worker out of the clock with what it pushed in the tick that it did not end.

        Nothing happens when it is `client` that died and another one speaks for the worker.
        """
        owners = self.writers.owners
        if client is not None and owners.get(worker) != client:
            return
        self.drop_held_of(worker)
        self._key_lists.forget(owners.pop(worker, ""))
        self.clock.finish(worker)
        self.release()

    def resume(self, client: str, seq: int, worker: int | None, tick: int) -> int:
        """Go on with a client whose writes up to `seq` were acknowledged; return how many are lost.

        Only a shard that was restored from a checkpoint can have lost some.
        """
        lost = self.writers.go_on(client, seq)
        self.counts["lost_writes"] += lost
        owners = self.writers.owners
        if worker is not None and owners.get(worker) in (None, client):
            owners[worker] = client
            missed = max(tick - self.clock.ticks[worker], 0)
            self.clock.ticks[worker] += missed
            self.clock.count += missed
            self.release()
        return lost

    def status(self) -> dict[str, Any]:
        """Return this shard's part of `ParameterServer.status`."""
        return {
            "shard": self.index,
            "pid": os.getpid(),
            "version": self.partition.version,
            "buckets": len(self._buckets),
            "sequence": self.sequence,
            "rows": sum(map(len, self.tables.values())),
            "bytes": sum(table.nbytes for table in self.tables.values())
            + sum(vector.values.nbytes for vector in self.vectors.values()),
            **self.counts,
            "held": len(self.held),
            "clocks": dict(enumerate(self.clock.ticks)),
            "global_step": self.clock.count,
            "live": self.live_workers(),
            "tables": {name: len(table) for name, table in self.tables.items()},
            "vectors": {name: vector.length for name, vector in self.vectors.items()},
        }

    # Checkpoints

    def part(self, since: int | None, in_turn: InTurn = run_now) -> ShardPart | None:
        """Return one atomic cut for a checkpoint; see `weiml.ps.shard.parts.cut`."""
        return cut(self, since, control(self), in_turn, self.held.all())

    def save(self, spec: CheckpointSpec) -> ShardRecord | None:
        """Write this shard's part of a checkpoint, all at once."""
        part = self.part(spec.base(self.index))
        return None if part is None else write_shard(spec, part)

    def load(self, chain: Chain) -> None:
        """Read this shard's part of a checkpoint and `stage` it."""
        self.stage(read_content(self, chain))

    def stage(self, content: ShardContent) -> None:
        """Keep what replaces all content until `commit`; refuse while pushes of a tick are held."""
        check_no_tick_under_way(self)
        self._staged = content

    def unstage(self) -> None:
        """Forget what was staged."""
        self._staged = None

    @property
    def staged(self) -> bool:
        """Whether there is something to `commit`."""
        return self._staged is not None

    def commit(self, chain: Chain) -> None:
        """Replace all tables and vectors by what was loaded; every row counts as changed.

        What was staged is of `chain`, which is read now if nothing is.
        """
        if self._staged is None:
            self.load(chain)
        assert self._staged is not None
        content, self._staged = self._staged, None
        put_in_force(self, content)

    def restore(self, chain: Chain) -> None:
        """Become what a checkpoint says, clock and clients too: a new process of a lost one."""
        restore(self, chain)

    # Inside

    def _view(self, buckets: np.ndarray | None) -> ShardView:
        return ShardView(
            index=self.index,
            tables=self.tables,
            vectors=self.vectors,
            sequence=self.sequence,
            num_buckets=self.partition.num_buckets,
            buckets=self._buckets if buckets is None else buckets,
            step=self.step,
        )

    def _apply_or_hold(self, stamp: Stamp, push: Held) -> None:
        if stamp.worker is None or self.config.staleness != 0:
            self.apply(push)
            return
        # A copy: the caller may use its arrays again once the push is acknowledged.
        kept = replace(
            push,
            keys=push.keys.copy(),
            values=push.values.copy(),
            counts=None if push.counts is None else push.counts.copy(),
            squares=None if push.squares is None else push.squares.copy(),
        )
        self.held.add(self.clock.ticks[stamp.worker], stamp.worker, kept)


def _worker(stamp: Stamp) -> int:
    assert stamp.worker is not None, "an observer has no tick"
    return stamp.worker


def _flat(counts: np.ndarray | None) -> np.ndarray | None:
    return None if counts is None else np.require(counts.reshape(-1), np.float32, ["C", "W"])
