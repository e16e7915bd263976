"""The client of a sharded server: checks, splits by shard, numbers requests, puts answers together.

It is the same over every transport, and knows neither processes nor the optimizers' rules.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from weiml.config import nearest
from weiml.errors import ParameterServerError
from weiml.ps.base import Client, PullWhat, PushWhat, Ticket
from weiml.ps.delta import Cut, Delta
from weiml.ps.partition import Partition, vector_range
from weiml.ps.shard import WRITES, Stamp
from weiml.ps.tables import TableConfig
from weiml.ps.transport import Transport

__all__ = ["ShardedClient"]

# Pushes that a client may have under way before it waits for the oldest: bounds their memory.
_MAX_OUTSTANDING = 64


class _Part(NamedTuple):
    """What one shard gets of a request."""

    shard: int
    keys: np.ndarray
    order: np.ndarray | None
    """Places of the keys in the request; None: all of them, in order."""


class ShardedClient(Client):
    """See `Client`. Made by a server's ``client()``."""

    def __init__(self, transport: Transport, partition: Partition, worker: int | None) -> None:
        config = transport.config
        if worker is not None and not 0 <= worker < config.num_workers:
            raise ParameterServerError(
                f"worker must be 0 … {config.num_workers - 1} "
                f"(num_workers = {config.num_workers}) or None, got {worker}"
            )
        self.worker = worker
        self._transport = transport
        self._partition = partition
        self._id = uuid.uuid4().hex
        self._finished = False
        self._seqs = [0] * config.num_shards
        self._ticks = [0] * config.num_shards if worker is None else transport.ask("join", worker)
        self._num_ticks = 0
        self._writes: deque[tuple[int, Ticket]] = deque()  # (tick, push or tick)
        self._tables: dict[str, TableConfig] = {}
        self._vectors: dict[str, int] = {}

    # Requests

    def pull(self, table: str, keys: np.ndarray, what: PullWhat = "weights") -> Ticket:
        """Ask for rows; see `Client.pull`."""
        config = self._table(table)
        _check_choice("pull", what, ("weights", "state"))
        _check_keys(table, keys)
        width = config.dim if what == "weights" else config.width
        sent = [
            (part, self._send("pull", part.shard, table, part.keys, what))
            for part in self._parts(keys)
        ]
        return Ticket(lambda: self._gather_rows(sent, len(keys), width))

    def push(
        self, table: str, keys: np.ndarray, values: np.ndarray, what: PushWhat = "gradients"
    ) -> Ticket:
        """Send gradients or differences; see `Client.push`."""
        config = self._table(table)
        _check_choice("push", what, ("gradients", "differences"))
        _check_keys(table, keys)
        width = config.dim if what == "gradients" else config.width
        self._check_values(f"table {table!r}", what, values, (len(keys), width), keys)
        if what == "differences" and not config.optimizer.sums:
            raise ParameterServerError(
                f"table {table!r}: the state of {type(config.optimizer).__name__} is not a sum, so "
                f"differences cannot be added; push what='gradients'"
            )
        self._check_writable()
        sent = []
        for part in self._parts(keys):
            rows = values if part.order is None else values[part.order]
            sent.append((part.shard, self._send("push", part.shard, table, part.keys, rows, what)))
        return self._written(sent)

    def pull_vector(self, name: str) -> Ticket:
        """Ask for a vector; see `Client.pull_vector`."""
        length = self._vector(name)
        sent = [(shard, self._send("pull_vector", shard, name)) for shard in self._shards]
        return Ticket(lambda: self._gather_vector(sent, length))

    def push_vector(self, name: str, differences: np.ndarray) -> Ticket:
        """Add to a vector; see `Client.push_vector`."""
        length = self._vector(name)
        self._check_values(f"vector {name!r}", "differences", differences, (length,), None)
        self._check_writable()
        sent = []
        for shard in self._shards:
            low, high = vector_range(length, shard, len(self._seqs))
            sent.append((shard, self._send("push_vector", shard, name, differences[low:high])))
        return self._written(sent)

    def tick(self) -> Ticket:
        """End this worker's step; see `Client.tick`."""
        if self.worker is None:
            raise ParameterServerError("a client without a worker stands outside the clock")
        self._check_writable()
        self._settle(before=self._num_ticks)
        sent = [(shard, self._send("tick", shard)) for shard in self._shards]
        ticket = self._written(sent)
        self._ticks = [tick + 1 for tick in self._ticks]
        self._num_ticks += 1
        return ticket

    def wait(self, ticket: Ticket) -> np.ndarray | None:
        """Return the answer to a request; see `Client.wait`."""
        return ticket.wait()

    def delta(self, since: Cut | int) -> Delta:
        """Return what changed; see `Client.delta`."""
        cut = self._cut(since)
        sent = [(shard, self._send("delta", shard, n)) for shard, n in enumerate(cut.shards)]
        parts = self._transport.results(sent)
        return Delta(
            since=cut,
            cut=Cut(tuple(sequence for sequence, _, _ in parts)),
            tables=_merged_tables([tables for _, tables, _ in parts]),
            vectors=_merged_vectors([vectors for _, _, vectors in parts]),
        )

    def finish(self) -> None:
        """Leave the clock; see `Client.finish`."""
        self._settle(before=self._num_ticks + 1)
        if self.worker is None or self._finished:
            return
        sent = [(shard, self._send("finish", shard)) for shard in self._shards]
        self._finished = True
        self._transport.results(sent)

    # Inside

    @property
    def _shards(self) -> range:
        return range(len(self._seqs))

    def _parts(self, keys: np.ndarray) -> list[_Part]:
        if len(self._seqs) == 1:
            return [_Part(0, keys, None)]
        split = self._partition.split(keys)
        slices = [(shard, split.part(shard)) for shard in self._shards]
        return [
            _Part(shard, split.keys[part], split.order[part])
            for shard, part in slices
            if part.stop > part.start
        ]

    def _send(self, verb: str, shard: int, *arguments: Any) -> Any:
        self._seqs[shard] += verb in WRITES
        # A delta reads what is applied, so it waits for this client's writes but for no clock.
        worker = None if self._finished or verb == "delta" else self.worker
        stamp = Stamp(self._id, self._seqs[shard], worker, self._ticks[shard])
        return self._transport.send(shard, verb, stamp, *arguments)

    def _written(self, sent: list[tuple[int, Any]]) -> Ticket:
        def complete() -> None:
            self._transport.results(sent)

        ticket = Ticket(complete)
        self._writes.append((self._num_ticks, ticket))
        while len(self._writes) > _MAX_OUTSTANDING:
            self._take_oldest_write()
        return ticket

    def _settle(self, *, before: int) -> None:
        """Wait for the writes of ticks before `before`, raising what they failed with."""
        while self._writes and self._writes[0][0] < before:
            self._take_oldest_write()

    def _take_oldest_write(self) -> None:
        _, ticket = self._writes.popleft()
        if not ticket.done:  # else the caller has seen its error already
            ticket.wait()

    def _gather_rows(self, sent: list[tuple[_Part, Any]], size: int, width: int) -> np.ndarray:
        answers = self._transport.results([(part.shard, handle) for part, handle in sent])
        out = np.empty((size, width), np.float32)
        for (part, _), rows in zip(sent, answers, strict=True):
            if part.order is None:
                return np.require(rows, np.float32, ["C", "W"])
            out[part.order] = rows
        return out

    def _gather_vector(self, sent: list[tuple[int, Any]], length: int) -> np.ndarray:
        out = np.empty(length, np.float32)
        return np.concatenate(self._transport.results(sent), out=out)

    def _table(self, name: str) -> TableConfig:
        if name not in self._tables:
            self._describe()
        if name not in self._tables:
            raise self._unknown("table", name, self._tables)
        return self._tables[name]

    def _vector(self, name: str) -> int:
        if name not in self._vectors:
            self._describe()
        if name not in self._vectors:
            raise self._unknown("vector", name, self._vectors)
        return self._vectors[name]

    def _describe(self) -> None:
        # The last shard: what it knows was created on the ones before it first.
        last = len(self._seqs) - 1
        handle = self._transport.send(last, "describe")
        self._tables, self._vectors = self._transport.result(last, handle)

    def _unknown(self, what: str, name: str, known: dict[str, Any]) -> ParameterServerError:
        return ParameterServerError(
            f"parameter server group {self._transport.config.name!r} has no {what} "
            f"{name!r}{nearest(name, known)}"
        )

    def _cut(self, since: Cut | int) -> Cut:
        num_shards = len(self._seqs)
        if isinstance(since, int):
            if since != 0 and num_shards > 1:
                raise ParameterServerError(
                    f"a delta since {since} of {num_shards} shards needs a Cut, since shards count "
                    f"on their own; pass the `cut` of the delta before"
                )
            since = Cut((since,) * num_shards)
        shards = since.shards or (0,) * num_shards
        if len(shards) != num_shards:
            raise ParameterServerError(
                f"a cut of {len(shards)} shards does not fit a group of {num_shards}; start again "
                f"from Cut.zero()"
            )
        return Cut(shards)

    def _check_writable(self) -> None:
        if self._finished:
            raise ParameterServerError(
                f"worker {self.worker} has finished; ask the server for a new client({self.worker})"
            )

    def _check_values(
        self,
        where: str,
        what: str,
        values: np.ndarray,
        shape: tuple[int, ...],
        keys: np.ndarray | None,
    ) -> None:
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            raise ParameterServerError(
                f"{where}: {what} must be a float32 array, got {_kind(values)}"
            )
        if values.shape != shape:
            raise ParameterServerError(
                f"{where}: {what} must have shape {shape}, got {values.shape}"
            )
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
            which = f"place {at}" if keys is None else f"key {keys[at]}"
            worker = "an observer" if self.worker is None else f"worker {self.worker}"
            raise ParameterServerError(
                f"{where}: {what} of {worker} for {which} are not finite: {values[at]}; "
                f"nothing was pushed. Lower the learning rate or look at the example"
            )


def _merged_tables(
    parts: list[dict[str, tuple[np.ndarray, np.ndarray]]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        name: (
            np.concatenate([part[name][0] for part in parts]),
            np.concatenate([part[name][1] for part in parts]),
        )
        for name in parts[0]
        if all(name in part for part in parts)
    }


def _merged_vectors(parts: list[dict[str, tuple[np.ndarray, bool]]]) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([part[name][0] for part in parts])
        for name in parts[0]
        if all(name in part for part in parts) and any(part[name][1] for part in parts)
    }


def _check_keys(table: str, keys: np.ndarray) -> None:
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.ndim != 1:
        raise ParameterServerError(
            f"table {table!r}: keys must be a uint64 array of one dimension, got {_kind(keys)}"
        )


def _check_choice(verb: str, what: str, choices: tuple[str, ...]) -> None:
    if what not in choices:
        raise ParameterServerError(f"{verb}: what must be one of {choices}, got {what!r}")


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__
