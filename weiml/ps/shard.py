"""One shard: its part of every table and vector, and the clock that orders what happens to them.

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
from weiml.ps.clock import Clock
from weiml.ps.content import ShardContent
from weiml.ps.dense import DenseTable
from weiml.ps.functions import ShardView, find_function
from weiml.ps.partition import Partition
from weiml.ps.sender import encoded, read_rows, received, received_keys
from weiml.ps.shard_parts import InTurn, control_of, cut, held_of, read_content, run_now
from weiml.ps.transfer import Held, RescaleState, ShardRows, ShardUpdate, Stamp
from weiml.ps.wire import KeyReceiver, SomeRows

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
_RESTORED = 1 << 32
_MAX_CLIENTS = 1 << 14  # observers come and go; those silent longest are forgotten
_MAX_RETIRED = 8  # rescales of which it is remembered what shards that went had done


class Moved:
    """The answer to a request split by an older partition: nothing was done, split it again."""

    def __init__(self, version: int) -> None:
        self.version = version


class UnknownKeys:
    """The answer to a request whose keys came as a signature that the shard does not know."""


class Shard(ShardContent):
    """Shard `index` of a group. Not thread-safe: one caller at a time."""

    def __init__(self, config: GroupConfig, index: int, partition: Partition | None = None) -> None:
        super().__init__(config, index, partition)
        self.clock = Clock(config.num_workers, config.staleness)
        self.counts = dict.fromkeys(
            ("pulls", "pushes", "keys", "duplicates", "lost_writes", "dropped_pushes"), 0
        )
        self.observe: Callable[[str, np.ndarray], None] | None = None
        """Called with the table and the keys of each pull and push that is served."""
        self._applied: dict[str, int] = {}  # client -> its last write
        self._owners: dict[int, str] = {}  # worker -> the client that speaks for it
        self._held: dict[tuple[int, int], list[Held]] = {}  # (tick, worker) -> pushes
        self._key_lists = KeyReceiver()
        self._staged: ShardContent | None = None
        # What a stand-by has not been told yet.
        self._news_clients: set[str] = set()
        self._news_held: list[tuple[int, int, Held]] = []
        self._news_dropped: set[tuple[int, int]] = set()
        # A rescale under way.
        self._barrier: int | None = None
        self._arrived: dict[int, tuple[str, int, str]] = {}
        self._passes: set[tuple[str, int]] = set()
        self._frozen = False
        self._given_up = 0  # rescales, so that a stand-by forgets what came for them too
        self._retired: dict[tuple[int, int], dict[str, int]] = {}
        self._news_retired = False
        self._expired: dict[str, tuple[str, int]] = {}  # table -> the last request, rows removed

    # What holds a request up

    def blocked(self, verb: str, stamp: Stamp) -> str | None:
        """Return what the request waits for, in words, or None when it may go ahead."""
        write = verb in WRITES
        done = self._applied.get(stamp.client, 0)
        if self._frozen:
            return "buckets that move to another shard"
        if self._is_stale(stamp) or (write and stamp.seq <= done):
            return None
        if done < stamp.seq - write:
            if not done:
                return (
                    f"request 1 of client {stamp.client}, which has not arrived, or was forgotten "
                    f"with the client after {_MAX_CLIENTS} others wrote; make a new client"
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
        return older and (stamp.client, stamp.seq) not in self._passes

    def _at_barrier(self, verb: str, stamp: Stamp) -> str | None:
        if self._barrier is None:
            return None
        worker = _worker(stamp)
        if verb == "tick" and self.clock.ticks[worker] < self._barrier:
            return None
        self._arrived[worker] = (stamp.client, stamp.seq, verb)
        return f"the other workers to come to tick {self._barrier}, where buckets move"

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
        if verb in WRITES and stamp.seq <= self._applied.get(stamp.client, 0):
            self.counts["duplicates"] += 1
            return None
        if self._is_stale(stamp):
            return Moved(self.partition.version)
        if stamp.worker is not None and self._owners.get(stamp.worker) != stamp.client:
            raise ParameterServerError(
                f"{self._where}: this client does not speak for worker {stamp.worker} any more: "
                f"the worker was declared dead or has another client; ask the server for a new "
                f"client({stamp.worker})"
            )
        if verb in KEYED and self.observe is not None:
            self.observe(arguments[0], arguments[1])
        if verb in WRITES:
            self._applied[stamp.client] = self._applied.pop(stamp.client, 0) + 1
            self._news_clients.add(stamp.client)
            self._passes.discard((stamp.client, stamp.seq))
            self._forget_clients()
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
        rows.push_statistics(keys, shows, clicks, self.sequence, step=self._step)

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

    def _tick(self, stamp: Stamp) -> None:
        self.clock.tick(_worker(stamp))
        self._release()

    def _finish(self, stamp: Stamp) -> None:
        self.clock.finish(_worker(stamp))
        self._key_lists.forget(stamp.client)
        self._release()

    # Not ordered: set-up, status

    def join(self, worker: int, client: str) -> int:
        """Let `client` speak for `worker` in the clock from now on; return the worker's tick.

        What an earlier client of the worker pushed in a tick that it did not end is dropped.
        """
        before = self._owners.get(worker)
        if before not in (None, client):
            self._drop_held(worker)
            self._key_lists.forget(before)
        self._owners[worker] = client
        return self.clock.join(worker)

    def declare_dead(self, worker: int, client: str | None = None) -> None:
        """Take a worker out of the clock with what it pushed in the tick that it did not end.

        Nothing happens when it is `client` that died and another one speaks for the worker.
        """
        if client is not None and self._owners.get(worker) != client:
            return
        self._drop_held(worker)
        self._key_lists.forget(self._owners.pop(worker, ""))
        self.clock.finish(worker)
        self._release()

    def resume(self, client: str, seq: int, worker: int | None, tick: int) -> int:
        """Go on with a client whose writes up to `seq` were acknowledged; return how many are lost.

        Only a shard that was restored from a checkpoint can have lost some.
        """
        lost = max(0, seq - self._applied.get(client, 0))
        if lost:
            self.counts["lost_writes"] += lost
            self._applied[client] = seq
            self._news_clients.add(client)
        if worker is not None and self._owners.get(worker) in (None, client):
            self._owners[worker] = client
            self.clock.ticks[worker] = max(self.clock.ticks[worker], tick)
            self._release()
        return lost

    def drop_vector(self, name: str) -> None:
        """Remove a vector, if there is one, and what is held for it."""

        def kept(push: Held) -> Held:
            gone = push.verb == "push_vector" and push.name == name
            return replace(push, keys=push.keys[:0]) if gone else push

        super().drop_vector(name)
        self._keep_held(kept)

    def expire(self, table: str, step: int, now_s: float, request: str = "") -> int:
        """Remove the rows that the table's expiry rule gives up; `step` 0 is the clock's.

        The last `request` of a table, asked again, gives the same answer and does nothing.
        """
        before, removed = self._expired.get(table, ("", 0))
        if not request or request != before:
            removed = super().expire(table, step or self._step, now_s)
            self._expired[table] = request, removed
        return removed

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
            "held": sum(map(len, self._held.values())),
            "clocks": dict(enumerate(self.clock.ticks)),
            "live": self.live_workers(),
            "tables": {name: len(table) for name, table in self.tables.items()},
            "vectors": {name: vector.length for name, vector in self.vectors.items()},
        }

    # To and from other shards

    def import_rows(self, content: ShardRows) -> None:
        """Take over rows, numbers and held pushes."""
        super().import_rows(content)
        if content.buckets is not None:  # it may come twice
            self._drop_held_in(np.setdiff1d(content.buckets, self._buckets))
        for tick, worker, push in content.held:
            self._hold(tick, worker, push)

    def export_changes(self, since: int, buckets: np.ndarray | None = None) -> ShardRows:
        """Return what changed after `since`; for a move, held pushes in `buckets` too."""
        content = super().export_changes(since, buckets)
        if buckets is None:
            return content
        parts = [(t, w, self._part(push, buckets)) for t, w, push in self._all_held()]
        held = tuple((t, w, part) for t, w, part in parts if len(part.keys))
        return replace(content, held=held)

    def forget_buckets(self, buckets: np.ndarray) -> None:
        """Drop what lies in `buckets`, parts of held pushes too."""
        super().forget_buckets(buckets)
        self._drop_held_in(buckets)

    def _drop_held_in(self, buckets: np.ndarray) -> None:
        if not (self._held and len(buckets)):
            return
        kept = np.setdiff1d(np.arange(self.partition.num_buckets), buckets)
        self._keep_held(lambda push: self._part(push, kept))

    def _keep_held(self, kept: Callable[[Held], Held]) -> None:
        """Hold of each push what `kept` leaves of it, if that is anything."""
        before, self._held = self._held, {}
        for at, pushes in before.items():
            parts = [part for part in map(kept, pushes) if len(part.keys)]
            if parts:
                self._held[at] = parts
        self._news_dropped |= set(before)  # all that is left is told anew
        self._news_held = self._all_held()

    def collect_update(self, since: int, epoch: int, *, copied: bool = False) -> ShardUpdate:
        """Return what happened since the last update, taken at sequence number `since`.

        For a new stand-by, to which all was `copied` that was there at `since`, also all clients
        and held pushes; otherwise only those that are news, and they are news no longer.
        """
        content = self.export_changes(since)
        retired = dict(self._retired) if copied or self._news_retired else None
        if copied:
            clients, held = dict(self._applied), self._all_held()
            dropped = set(self._held)
        else:
            dropped = self._news_dropped
            clients = {c: self._applied[c] for c in self._news_clients if c in self._applied}
            held = [news for news in self._news_held if news[:2] in self._held]
            self.forget_news()
        return ShardUpdate(
            epoch=epoch,
            sequence=self.sequence,
            content=replace(content, held=tuple(held)),
            partition=self.partition,
            clients=clients,
            owners=dict(self._owners),
            ticks=tuple(self.clock.ticks),
            live=tuple(self.clock.live),
            held_left=frozenset(self._held),
            held_anew=frozenset(dropped),
            rescale=RescaleState(
                frozen=self._frozen,
                barrier=self._barrier,
                arrived=dict(self._arrived),
                passes=frozenset(self._passes),
                given_up=self._given_up,
                retired=retired,
            ),
            counts=dict(self.counts),
            expired=dict(self._expired),
            copied_at=since if copied else None,
        )

    def forget_news(self) -> None:
        """Take it that every stand-by has been told everything."""
        self._news_clients, self._news_held, self._news_dropped = set(), [], set()
        self._news_retired = False

    def copy_start(self) -> tuple[Partition, int, int]:
        """Return where the shard is, for `begin_copy` of a stand-by before it `take`s rows."""
        return self.partition, self.sequence, self._given_up

    def begin_copy(self, start: tuple[Partition, int, int]) -> None:
        """As an empty stand-by: count all that is copied as of the sequence number of its start."""
        partition, sequence, self._given_up = start
        if partition.version != self.partition.version:
            self.set_partition(partition)
        self.sequence = sequence - 1  # taking rows over counts one

    def take(self, rows: ShardRows) -> None:
        """As a stand-by that is copied to: take over rows."""
        self._drop_others(rows)
        self.import_rows(rows)
        self.born = dict(rows.born)
        self.sequence -= 1

    def apply_update(self, update: ShardUpdate) -> None:
        """Become what the sending shard was: values are set, so twice is harmless."""
        if update.copied_at is not None:  # what is older came without its sequence number
            for table in self.tables.values():
                table.changes.reset(update.copied_at)
        if update.rescale.given_up != self._given_up:
            self._forget_arrivals()
        if update.partition.version != self.partition.version:
            self.set_partition(update.partition)
        for at in update.held_anew:
            self._held.pop(at, None)
        self._drop_others(update.content)
        self.sequence = update.sequence - 1  # taking rows over counts one
        self.import_rows(update.content)
        self.born = dict(update.content.born)
        self._held = {at: pushes for at, pushes in self._held.items() if at in update.held_left}
        for client, seq in update.clients.items():
            self._applied.pop(client, None)
            self._applied[client] = seq
        self._forget_clients()
        self._owners = dict(update.owners)
        self.clock.ticks = list(update.ticks)
        self.clock.live = list(update.live)
        self.counts = dict(update.counts)
        self._expired = dict(update.expired)
        state = update.rescale
        self._frozen, self._barrier, self._given_up = state.frozen, state.barrier, state.given_up
        self._arrived, self._passes = dict(state.arrived), set(state.passes)
        if state.retired is not None:
            self._retired = dict(state.retired)
        self.sequence = update.sequence
        self.forget_news()

    def _drop_others(self, content: ShardRows) -> None:
        """Drop tables and vectors that the sender does not have, or has anew."""
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
        self._barrier = tick
        self._arrived = {}
        return True

    def latest_tick(self) -> int:
        """Return the number of ticks of the worker that is furthest."""
        return max(self.clock.ticks, default=0)

    def missing_at_barrier(self) -> list[int]:
        """Return the live workers whose tick has not arrived at the barrier."""
        live = [w for w in self._owners if self.clock.live[w]]
        return [w for w in live if w not in self._arrived]

    def freeze(self) -> None:
        """Let no stamped request through until `switch` or `thaw`."""
        self._frozen = True

    @property
    def frozen(self) -> bool:
        """Whether no request may act."""
        return self._frozen

    def lift_barrier(self) -> None:
        """Let all workers tick on."""
        self._barrier = None
        self._arrived = {}

    def thaw(self) -> None:
        """Go on after a rescale that was given up: forget what came for it."""
        self._forget_arrivals()
        self._given_up += 1
        self._frozen = False
        self.lift_barrier()

    def _forget_arrivals(self) -> None:
        others = np.setdiff1d(np.arange(self.partition.num_buckets), self._buckets)
        self.forget_buckets(others.astype(np.int32))

    def switch(self, partition: Partition, count: int = 0) -> None:
        """Go over to another partition, whose rows are here already; drop what lies elsewhere.

        Ticks that wait at the barrier are let through; what else was split by the old one gets
        `Moved` for an answer. `count` changes of shards that go are counted here from now on.
        """
        if partition.version == self.partition.version:
            return  # gone over already; or on its way to a later one, which `thaw` is to end
        self._passes = {(client, seq) for client, seq, _ in self._arrived.values()}
        self.set_partition(partition)
        self.sequence += 1 + count
        self._frozen = False
        self.lift_barrier()
        self._release()

    def workers(self) -> dict[str, Any]:
        """Return the clock and who speaks for whom, ticks that wait at a barrier counted."""
        ticks, live = list(self.clock.ticks), list(self.clock.live)
        for worker, (_, _, verb) in self._arrived.items():
            ticks[worker] += verb == "tick"
            live[worker] = live[worker] and verb == "tick"
        expired = {table: (request, 0) for table, (request, _) in self._expired.items()}
        return {"ticks": ticks, "live": live, "owners": dict(self._owners), "expired": expired}

    def live_workers(self) -> list[int]:
        """Return the workers in the clock."""
        return [worker for worker, live in enumerate(self.clock.live) if live]

    def set_live(self, live: list[int]) -> None:
        """Have just these workers in the clock, as a shard does that was restored."""
        self.clock.live = [worker in live for worker in range(self.config.num_workers)]

    def set_workers(self, workers: dict[str, Any]) -> None:
        """Take over what `workers` gave on another shard, as a new shard of the group does."""
        self.clock.ticks, self.clock.live = list(workers["ticks"]), list(workers["live"])
        self._owners = dict(workers["owners"])
        self._expired = dict(workers["expired"])

    def clients(self) -> dict[str, int]:
        """Return each client's last write."""
        return dict(self._applied)

    def retire(self, shard: int, version: int, clients: dict[str, int]) -> None:
        """Remember the clients' last writes on a shard that goes at a version of the partition."""
        self._retired[shard, version] = clients
        self._news_retired = True
        while len({version for _, version in self._retired}) > _MAX_RETIRED:
            oldest = min(version for _, version in self._retired)
            self._retired = {at: kept for at, kept in self._retired.items() if at[1] != oldest}

    def last_write(self, shard: int, version: int, client: str) -> int:
        """Return a client's last write on a shard of partition `version` that is no more."""
        later = [v for s, v in self._retired if s == shard and v > version]
        return self._retired[shard, min(later)].get(client, 0) if later else 0

    # Checkpoints

    def part(self, since: int | None, in_turn: InTurn = run_now) -> ShardPart | None:
        """Return one atomic cut for a checkpoint; see `weiml.ps.shard_parts.cut`."""
        return cut(self, since, self.control(), in_turn, self._all_held())

    def save(self, spec: CheckpointSpec) -> ShardRecord | None:
        """Write this shard's part of a checkpoint, all at once."""
        part = self.part(spec.base(self.index))
        return None if part is None else write_shard(spec, part)

    def load(self, chain: Chain) -> None:
        """Read this shard's part of a checkpoint and `stage` it."""
        self.stage(read_content(self, chain))

    def stage(self, content: ShardContent) -> None:
        """Keep what replaces all content until `commit`; refuse while pushes of a tick are held."""
        if self._held:
            ticks = sorted({tick for tick, _ in self._held})
            raise ParameterServerError(
                f"{self._where}: a tick is under way (pushes of ticks {ticks} are "
                f"held), so nothing can be loaded now; let all workers tick or finish first"
            )
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
        self.sequence += 1
        self.tables, self.vectors = self._staged.tables, self._staged.vectors
        made = [("table", name) for name in self.tables]
        made += [("vector", name) for name in self.vectors]
        self.born = dict.fromkeys(made, self.sequence)
        self._arriving = {}
        self._staged = None
        for table in self.tables.values():
            table.changes.reset(self.sequence)
        for vector in self.vectors.values():
            vector.touched = self.sequence

    def restore(self, chain: Chain) -> None:
        """Become what a checkpoint says, clock and clients too: a new process of a lost one."""
        self.stage(read_content(self, chain))
        # Far beyond what the lost process may have counted: cuts of then bring everything.
        self.sequence = max(chain.newest.sequences, default=0) + _RESTORED
        self.commit(chain)
        control = control_of(chain, self.index, self.partition)
        if control is not None:
            self.set_control(control)
            for tick, worker, push in held_of(chain, self.index):
                self._hold(tick, worker, push)

    def control(self) -> dict[str, Any]:
        """Return clock and clients as plain data, to be kept beside the rows."""
        return {
            "clients": dict(self._applied),
            "ticks": list(self.clock.ticks),
            "live": list(self.clock.live),
            "partition": self.partition.to_mapping(),
        }

    def set_control(self, control: dict[str, Any]) -> None:
        """Take over clock and clients that `control` gave, as a restored shard does."""
        self._applied = {str(c): int(n) for c, n in control["clients"].items()}
        self.clock.ticks = [int(t) for t in control["ticks"]]
        self.clock.live = [bool(live) for live in control["live"]]

    # Inside

    @property
    def _step(self) -> int:
        """What rows' last-seen statistic is counted in: ticks, or pushes where nobody ticks."""
        return max(self.clock.ticks, default=0) or self.sequence % _RESTORED

    def _view(self, buckets: np.ndarray | None) -> ShardView:
        return ShardView(
            index=self.index,
            tables=self.tables,
            vectors=self.vectors,
            sequence=self.sequence,
            num_buckets=self.partition.num_buckets,
            buckets=self._buckets if buckets is None else buckets,
            step=self._step,
        )

    def _all_held(self) -> list[tuple[int, int, Held]]:
        return [(t, w, p) for (t, w), pushes in sorted(self._held.items()) for p in pushes]

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

    def _forget_clients(self) -> None:
        while len(self._applied) > _MAX_CLIENTS:
            oldest = next(c for c in self._applied if c not in self._owners.values())
            del self._applied[oldest]
            self._news_clients.discard(oldest)
            self._key_lists.forget(oldest)

    def _apply_or_hold(self, stamp: Stamp, push: Held) -> None:
        if stamp.worker is None or self.config.staleness != 0:
            self._apply(push)
            return
        # A copy: the caller may use its arrays again once the push is acknowledged.
        kept = replace(
            push,
            keys=push.keys.copy(),
            values=push.values.copy(),
            counts=None if push.counts is None else push.counts.copy(),
            squares=None if push.squares is None else push.squares.copy(),
        )
        self._hold(self.clock.ticks[stamp.worker], stamp.worker, kept)

    def _hold(self, tick: int, worker: int, push: Held) -> None:
        self._held.setdefault((tick, worker), []).append(push)
        self._news_held.append((tick, worker, push))

    def _drop_held(self, worker: int) -> None:
        at = (self.clock.ticks[worker], worker)
        dropped = self._held.pop(at, [])
        self._news_held = [news for news in self._news_held if news[:2] != at]
        self._news_dropped.add(at)
        self.counts["dropped_pushes"] += len(dropped)

    def _release(self) -> None:
        """Apply the held pushes of every tick that all live workers have finished."""
        floor = self.clock.floor
        for at in sorted(at for at in self._held if floor is None or at[0] < floor):
            if at[0] >= self.clock.ticks[at[1]]:  # a worker that comes back begins this tick anew
                self._news_dropped.add(at)
            for push in self._held.pop(at):
                self._apply(push)
        # What is applied is told with its rows; without a stand-by nobody else takes it from here.
        self._news_held = [news for news in self._news_held if news[:2] in self._held]

    def _apply(self, push: Held) -> None:
        self.sequence += 1
        if push.verb == "push_vector":
            vector = self._vector(push.name)
            vector.add(np.asarray(push.values, np.float32), self.sequence, push.keys)
            return
        table = self._table(push.name)
        keys = np.require(push.keys, np.uint64, ["C", "W"])
        values = np.require(push.values, np.float32, ["C", "W"])
        if push.what == "differences":
            table.push_differences(keys, values, self.sequence, step=self._step)
        else:
            table.push_gradients(
                keys,
                values,
                self.sequence,
                counts=push.counts,
                squares=push.squares,
                step=self._step,
            )


def _worker(stamp: Stamp) -> int:
    assert stamp.worker is not None, "an observer has no tick"
    return stamp.worker


def _flat(counts: np.ndarray | None) -> np.ndarray | None:
    return None if counts is None else np.require(counts.reshape(-1), np.float32, ["C", "W"])
