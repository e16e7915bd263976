"""One shard: its part of every table and vector, and the clock that orders what happens to them.

A plain synchronous class with one writer. It never waits: a transport asks `blocked` first and
calls the verb when nothing holds it up. It knows no other shard and no transport.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig, PullWhat, PushWhat
from weiml.ps.checkpoint import Manifest, ShardImage, ShardRecord, read_image
from weiml.ps.clock import Clock
from weiml.ps.partition import Partition
from weiml.ps.tables import SparseTable, TableConfig
from weiml.ps.vectors import VectorPart

__all__ = ["READS", "WRITES", "Shard", "Stamp"]

READS = frozenset({"pull", "pull_vector", "delta"})
"""Verbs that wait for the client's earlier writes and, for a worker, for the clock."""
WRITES = frozenset({"push", "push_vector", "tick", "finish"})
"""Verbs that wait for the client's earlier writes and act once per (client, seq)."""


@dataclass(frozen=True)
class Stamp:
    """Who asks, and when in the asker's own order."""

    client: str
    """Unique to one client object."""
    seq: int
    """For a write its number on this shard, from 1; for a read the last write before it."""
    worker: int | None
    tick: int
    """The worker's finished ticks; 0 for an observer."""


@dataclass(frozen=True)
class _Held:
    """A push that waits for the end of its BSP tick."""

    kind: PushWhat | None  # None: a vector
    name: str
    keys: np.ndarray
    values: np.ndarray


class Shard:
    """Shard `index` of a group. Not thread-safe: one caller at a time."""

    def __init__(self, config: GroupConfig, index: int) -> None:
        self.config = config
        self.index = index
        self.sequence = 0
        self.tables: dict[str, SparseTable] = {}
        self.vectors: dict[str, VectorPart] = {}
        self._clock = Clock(config.num_workers, config.staleness)
        self._applied: dict[str, int] = {}  # client -> its last write
        self._held: dict[int, dict[int, list[_Held]]] = {}  # tick -> worker -> pushes
        self._counts = {"pulls": 0, "pushes": 0, "keys": 0, "duplicates": 0}
        self._staged: ShardImage | None = None

    # What holds a request up

    def blocked(self, verb: str, stamp: Stamp) -> str | None:
        """Return what the request waits for, in words, or None when it may go ahead."""
        write = verb in WRITES
        done = self._applied.get(stamp.client, 0)
        if done < stamp.seq - write:
            return f"request {done + 1} of client {stamp.client}, which has not arrived"
        if write or stamp.worker is None:
            return None
        late = self._clock.waiting_for(stamp.tick)
        if not late:
            return None
        ticks = ", ".join(f"worker {w} (at tick {self._clock.ticks[w]})" for w in late)
        return (
            f"{ticks} to tick: worker {stamp.worker} reads at tick {stamp.tick} "
            f"with staleness = {self.config.staleness}"
        )

    # Reads

    def pull(self, stamp: Stamp, table: str, keys: np.ndarray, what: PullWhat) -> np.ndarray:
        """Return rows or weights of `keys`: float32 (n, width) or (n, dim)."""
        rows = self._table(table)
        self._counts["pulls"] += 1
        self._counts["keys"] += len(keys)
        return rows.pull_state(keys) if what == "state" else rows.pull_weights(keys)

    def pull_vector(self, stamp: Stamp, name: str) -> np.ndarray:
        """Return this shard's part of a vector."""
        self._counts["pulls"] += 1
        return self._vector(name).values.copy()

    def delta(
        self, stamp: Stamp, since: int
    ) -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]], dict[str, tuple[np.ndarray, bool]]]:
        """Return (sequence, changed rows by table, (part, changed?) by vector) after `since`."""
        if since > self.sequence:
            raise ParameterServerError(
                f"{self._where}: a delta since {since} was asked for, but the shard is at "
                f"{self.sequence}; the cut is of another group or of a time before a restart: "
                f"start again from Cut.zero()"
            )
        tables = {name: table.changed(since) for name, table in self.tables.items()}
        vectors = {n: (v.values.copy(), v.touched > since) for n, v in self.vectors.items()}
        return self.sequence, tables, vectors

    # Writes, each once per (client, seq)

    def push(
        self, stamp: Stamp, table: str, keys: np.ndarray, values: np.ndarray, what: PushWhat
    ) -> None:
        """Apply or hold a push of rows; the client has checked shapes and values."""
        if self._first_time(stamp):
            self._table(table)
            self._counts["pushes"] += 1
            self._counts["keys"] += len(keys)
            keys = np.require(keys, np.uint64, ["C", "W"])
            values = np.require(values, np.float32, ["C", "W"])
            self._apply_or_hold(stamp, _Held(what, table, keys, values))

    def push_vector(self, stamp: Stamp, name: str, differences: np.ndarray) -> None:
        """Apply or hold a push to this shard's part of a vector."""
        if self._first_time(stamp):
            self._vector(name)
            self._counts["pushes"] += 1
            self._apply_or_hold(stamp, _Held(None, name, np.empty(0, np.uint64), differences))

    def tick(self, stamp: Stamp) -> None:
        """The worker has finished its step."""
        if self._first_time(stamp):
            self._clock.tick(self._worker(stamp))
            self._release()

    def finish(self, stamp: Stamp) -> None:
        """The worker leaves the clock."""
        if self._first_time(stamp):
            self._clock.finish(self._worker(stamp))
            self._release()

    # Not ordered: set-up, status, checkpoints

    def join(self, worker: int) -> int:
        """Put `worker` into the clock; return its tick."""
        return self._clock.join(worker)

    def create_table(self, config: TableConfig) -> None:
        """Create a table, or confirm that an equal one exists."""
        table = self.tables.get(config.name)
        if table is None:
            self.tables[config.name] = SparseTable(config)
        elif table.config != config:
            raise ParameterServerError(
                f"{self._where}: table {config.name!r} exists as {table.config}, "
                f"which differs from {config}; use another name or the same configuration"
            )

    def create_vector(self, name: str, length: int, start: int, values: np.ndarray) -> None:
        """Create this shard's part of a vector, or confirm that one of that length exists."""
        vector = self.vectors.get(name)
        if vector is None:
            self.sequence += 1
            self.vectors[name] = VectorPart(length, start, values, self.sequence)
        elif vector.length != length:
            raise ParameterServerError(
                f"{self._where}: vector {name!r} exists with length {vector.length}, "
                f"got {length}; use another name"
            )

    def describe(self) -> tuple[dict[str, TableConfig], dict[str, int]]:
        """Return the tables' configurations and the vectors' lengths."""
        tables = {name: table.config for name, table in self.tables.items()}
        return tables, {name: vector.length for name, vector in self.vectors.items()}

    def status(self) -> dict[str, Any]:
        """Return this shard's part of `ParameterServer.status`."""
        return {
            "shard": self.index,
            "pid": os.getpid(),
            "sequence": self.sequence,
            "rows": sum(map(len, self.tables.values())),
            "bytes": sum(table.nbytes for table in self.tables.values())
            + sum(vector.values.nbytes for vector in self.vectors.values()),
            **self._counts,
            "clocks": dict(enumerate(self._clock.ticks)),
            "live": [w for w, live in enumerate(self._clock.live) if live],
            "tables": {name: len(table) for name, table in self.tables.items()},
            "vectors": {name: vector.length for name, vector in self.vectors.items()},
        }

    def image(self) -> ShardImage:
        """Return a copy of the applied state: one atomic cut, to be written meanwhile."""
        return ShardImage(
            index=self.index,
            sequence=self.sequence,
            tables={
                name: (table.config, table.keys.copy(), table.state.copy())
                for name, table in self.tables.items()
            },
            vectors={
                name: (vector.length, vector.start, vector.values.copy())
                for name, vector in self.vectors.items()
            },
        )

    def save(self, folder: str) -> ShardRecord:
        """Write this shard's part of a checkpoint below `folder`."""
        return self.image().write(folder)

    def load(self, path: str, manifest: Manifest) -> None:
        """Read this shard's part of a verified checkpoint and `stage` it."""
        partition = Partition(self.config.num_shards, self.config.num_buckets)
        self.stage(read_image(path, manifest, partition, self.index))

    def stage(self, image: ShardImage) -> None:
        """Keep a loaded image until `commit`; refuse while pushes of a tick are held."""
        if self._held:
            raise ParameterServerError(
                f"{self._where}: a tick is under way (pushes of ticks {sorted(self._held)} are "
                f"held), so nothing can be loaded now; let all workers tick or finish first"
            )
        self._staged = image

    def commit(self) -> None:
        """Replace all tables and vectors by the staged image; every row counts as changed."""
        image = self._staged
        assert image is not None, "commit without stage"
        self._staged = None
        self.sequence = max(self.sequence, image.sequence) + 1
        self.tables = {}
        for name, (config, keys, state) in image.tables.items():
            self.tables[name] = SparseTable(config)
            self.tables[name].put_state(keys, state, self.sequence)
        self.vectors = {
            name: VectorPart(length, start, values, self.sequence)
            for name, (length, start, values) in image.vectors.items()
        }

    # Inside

    @property
    def _where(self) -> str:
        return f"parameter server group {self.config.name!r}, shard {self.index}"

    def _first_time(self, stamp: Stamp) -> bool:
        done = self._applied.get(stamp.client, 0)
        if stamp.seq <= done:
            self._counts["duplicates"] += 1
            return False
        assert stamp.seq == done + 1, "a transport must ask `blocked` first"
        self._applied[stamp.client] = stamp.seq
        return True

    def _apply_or_hold(self, stamp: Stamp, push: _Held) -> None:
        if stamp.worker is None or self.config.staleness != 0:
            self._apply(push)
        else:
            # A copy: the caller may use its arrays again once the push is acknowledged.
            kept = replace(push, keys=push.keys.copy(), values=push.values.copy())
            ticks = self._held.setdefault(self._clock.ticks[stamp.worker], {})
            ticks.setdefault(stamp.worker, []).append(kept)

    def _release(self) -> None:
        """Apply the held pushes of every tick that all live workers have finished."""
        floor = self._clock.floor
        for tick in sorted(t for t in self._held if floor is None or t < floor):
            workers = self._held.pop(tick)
            for worker in sorted(workers):
                for push in workers[worker]:
                    self._apply(push)

    def _apply(self, push: _Held) -> None:
        self.sequence += 1
        if push.kind is None:
            self._vector(push.name).add(push.values, self.sequence)
        elif push.kind == "gradients":
            self._table(push.name).push_gradients(push.keys, push.values, self.sequence)
        else:
            self._table(push.name).push_differences(push.keys, push.values, self.sequence)

    def _worker(self, stamp: Stamp) -> int:
        assert stamp.worker is not None, "an observer has no tick"
        return stamp.worker

    def _table(self, name: str) -> SparseTable:
        if name not in self.tables:
            raise ParameterServerError(f"{self._where} has no table {name!r}")
        return self.tables[name]

    def _vector(self, name: str) -> VectorPart:
        if name not in self.vectors:
            raise ParameterServerError(f"{self._where} has no vector {name!r}")
        return self.vectors[name]
