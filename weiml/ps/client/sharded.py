"""The client of a sharded server: checks requests, hands them on, and gives tickets for answers.

It is the same over every transport. How requests travel and come back, past lost processes and
buckets that move, is `weiml.ps.client.conversation`'s; the optimizers' rules are the shards'.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from weiml.config import nearest
from weiml.errors import ParameterServerError
from weiml.ps.base import Client, PullWhat, PushWhat, Ticket
from weiml.ps.client.checks import (
    check_ahead,
    check_choice,
    check_differences,
    check_keys,
    check_least,
    check_values,
)
from weiml.ps.client.conversation import Conversation
from weiml.ps.client.gathering import gather, partials, wait_acted, wait_ticked
from weiml.ps.client.requests import (
    EveryShard,
    FunctionRequest,
    Part,
    Request,
    RowRequest,
    VectorRequest,
)
from weiml.ps.delta import Cut, Delta, lacks_numbers, merge_deltas
from weiml.ps.functions.registry import find_function, load_function_modules
from weiml.ps.partition import Partition
from weiml.ps.shard.shard import Moved
from weiml.ps.tables.sparse import TableConfig
from weiml.ps.transport import Transport
from weiml.ps.wire import WireConfig
from weiml.ps.wire.sender import Rows, Sender

__all__ = ["ShardedClient"]


class ShardedClient(Client):
    """See `Client`. Made by a server's ``client()``."""

    def __init__(
        self, transport: Transport, worker: int | None, wire: WireConfig | None = None
    ) -> None:
        config = transport.config
        if worker is not None and not 0 <= worker < config.num_workers:
            raise ParameterServerError(
                f"worker must be 0 … {config.num_workers - 1} "
                f"(num_workers = {config.num_workers}) or None, got {worker}"
            )
        self.worker = worker
        self.num_workers = config.num_workers
        self.wire = wire or WireConfig()
        self.counts = dict.fromkeys(
            ("retries", "moved", "lost_writes", "waits", "bytes_sent", "bytes_received"), 0
        )
        self._transport = transport
        self._sender = Sender(self.wire, self.counts)
        self._conversation = Conversation(transport, worker, self._sender, self.counts)
        self._bsp = config.staleness == 0
        self._finished = False  # no more writes
        self._num_ticks = 0
        self._writes: deque[tuple[int, Ticket]] = deque()  # (tick, write)
        self._reads: list[list[Part]] = []  # those that were not answered when last looked at
        self._tables: dict[str, TableConfig] = {}
        self._vectors: dict[str, int] = {}

    # Requests

    def pull(
        self, table: str, keys: np.ndarray, what: PullWhat = "weights", *, ahead: int = 0
    ) -> Ticket:
        """Ask for rows; see `Client.pull`."""
        config = self._table(table)
        check_choice("pull", what, ("weights", "training", "state"))
        check_keys(config, keys)
        check_ahead(ahead)
        width = config.width if what == "state" else config.dim
        codec = self.wire.pull_codec(what)
        request = RowRequest("pull", keys, (table,), (what, codec, self.wire.omit_new), config.rows)
        held = None
        if what == "state":
            # A prefetch shows the pushes before it, or under BSP those of the tick it waits for.
            patient = ahead > 0 and self.worker is not None and self._bsp
            held = self._sender.held(table, keys, at_once=not patient)
        parts = self._read(request, ahead)
        fresh = partial(self._sender.fresh, config, what=what)
        return Ticket(
            lambda: _sum(
                gather(self._conversation, self._sender, parts, (len(keys), width), fresh), held
            )
        )

    def push(
        self,
        table: str,
        keys: np.ndarray,
        values: np.ndarray,
        what: PushWhat = "gradients",
        *,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> Ticket:
        """Send gradients or differences; see `Client.push`."""
        config = self._table(table)
        check_choice("push", what, ("gradients", "differences"))
        check_keys(config, keys)
        width = config.dim if what == "gradients" else config.width
        where = f"table {table!r}"
        kind = what if config.optimizer.adds else "values"  # which nobody squares
        check_values(where, kind, values, (len(keys), width), keys, self.worker)
        if counts is not None:
            check_values(where, "counts", counts, (len(keys),), keys, self.worker)
            check_least(where, "counts", counts, 1.0)
        if squares is not None:
            check_values(where, "squares", squares, (len(keys), config.dim), keys, self.worker)
            check_least(where, "squares", squares, 0.0)
        if what == "differences":
            check_differences(config, values)
        self._check_writable()
        if config.optimizer.adds:
            sent = self._sender.reduce(table, what, keys, values, counts, squares)
        else:
            sent = [Rows(keys, values, counts, squares)]
        tickets = [self._push_rows(config, what, rows) for rows in sent]
        return tickets[0] if len(tickets) == 1 else Ticket(lambda: _wait_all(tickets))

    def _push_rows(self, config: TableConfig, what: PushWhat, rows: Rows) -> Ticket:
        after = (rows.values, what, rows.counts, rows.squares)
        return self._write(RowRequest("push", rows.keys, (config.name,), after, config.rows))

    def push_statistics(
        self, table: str, keys: np.ndarray, shows: np.ndarray, clicks: np.ndarray
    ) -> Ticket:
        """Add to shows and clicks; see `Client.push_statistics`."""
        config = self._table(table)
        check_keys(config, keys)
        for name, values in (("shows", shows), ("clicks", clicks)):
            check_values(f"table {table!r}", name, values, (len(keys),), keys, self.worker)
            if name not in config.statistics:
                raise ParameterServerError(
                    f"table {table!r} keeps no {name}: its statistics are {config.statistics}; "
                    f"create it with TableConfig(statistics=(…, {name!r}))"
                )
        return self._write(RowRequest("push_statistics", keys, (table,), (shows, clicks)))

    def delete(self, table: str, keys: np.ndarray) -> Ticket:
        """Remove rows; see `Client.delete`."""
        config = self._table(table)
        check_keys(config, keys)
        return self._write(RowRequest("delete", keys, (table,), (), config.rows))

    def pull_vector(self, name: str) -> Ticket:
        """Ask for a vector; see `Client.pull_vector`."""
        length = self._vector(name)
        parts = self._read(VectorRequest("pull_vector", name, length))
        return Ticket(lambda: gather(self._conversation, self._sender, parts, (length,)))

    def push_vector(self, name: str, differences: np.ndarray) -> Ticket:
        """Add to a vector; see `Client.push_vector`."""
        length = self._vector(name)
        check_values(f"vector {name!r}", "differences", differences, (length,), None, self.worker)
        return self._write(VectorRequest("push_vector", name, length, differences))

    def call(self, function: str, *arguments: Any, keys: np.ndarray | None = None) -> Ticket:
        """Run a function on the shards; see `Client.call`."""
        load_function_modules(self._transport.config.function_modules)
        found = find_function(function)
        found.check(arguments, keys)
        verb = "call" if found.kind == "get" else "update"
        request: Request = FunctionRequest(verb, found, arguments)
        if keys is not None:
            config = self._table(str(arguments[0]))
            check_keys(config, keys)
            request = RowRequest(verb, keys, (function,), (None, arguments), config.rows)
        if verb == "update":
            return self._write(request)
        parts = self._read(request)
        return Ticket(lambda: found.merge(*partials(self._conversation, parts)))

    def tick(self) -> Ticket:
        """End this worker's step; see `Client.tick`."""
        if self.worker is None:
            raise ParameterServerError("a client without a worker stands outside the clock")
        self._check_writable()
        self._settle(before=self._num_ticks)
        ticket = self._write(EveryShard("tick"), wait_ticked)
        self._num_ticks += 1
        return ticket

    def wait(self, ticket: Ticket) -> Any:
        """Return the answer to a request; see `Client.wait`."""
        return ticket.wait()

    def delta(self, since: Cut | int) -> Delta:
        """Return what changed; see `Client.delta`."""
        conversation = self._conversation
        conversation.adopt_newest()
        all_vectors = False
        while True:
            partition = conversation.partition
            cut = _cut_of(since, partition)
            by_shard = {shard: (n, all_vectors) for shard, n in enumerate(cut.shards)}
            request = EveryShard("delta", (0, all_vectors), by_shard)
            answers = [conversation.answer(part) for part in conversation.send(request)]
            moved = [answer.version for answer in answers if isinstance(answer, Moved)]
            if not moved and not lacks_numbers(answers):
                return merge_deltas(cut, answers, partition)
            if not moved:  # a vector changed on some shards only, and is told whole
                all_vectors = True
                continue
            conversation.migrate(max(moved))
            since = since if isinstance(since, Cut) else Cut.zero()

    def flush(self) -> None:
        """Wait until all writes have acted; see `Client.flush`."""
        for table, what, rows in self._sender.drain():
            self._push_rows(self._table(table), what, rows)
        self._settle(before=self._num_ticks + 1)

    def finish(self) -> None:
        """Leave the clock; see `Client.finish`."""
        if self._finished:
            return
        self.flush()
        if self.worker is None:
            return
        ticket = self._write(EveryShard("finish"))
        self._finished = True
        ticket.wait()
        self._conversation.leave()
        self._writes.clear()

    # Sending

    def _write(
        self,
        request: Request,
        acted: Callable[[Conversation, list[Part]], int | None] = wait_acted,
    ) -> Ticket:
        self._check_writable()
        while len(self._writes) >= self.wire.max_outstanding:
            self.counts["waits"] += 1
            self._writes.popleft()[1].wait()
        parts = self._conversation.send(request)
        ticket = Ticket(lambda: acted(self._conversation, parts))
        self._writes.append((self._num_ticks, ticket))
        return ticket

    def _read(self, request: Request, ahead: int = 0) -> list[Part]:
        # Nothing that was answered is kept: it holds its rows.
        self._reads = [parts for parts in self._reads if not _answered(parts)]
        while len(self._reads) >= self.wire.max_outstanding:
            self.counts["waits"] += 1
            self._await_oldest_read()
        parts = self._conversation.send(request, ahead)
        self._reads.append(parts)
        return parts

    def _await_oldest_read(self) -> None:
        for parts in self._reads:
            if not any(self._conversation.is_ahead(part) for part in parts):
                break
        else:
            raise ParameterServerError(
                f"max_outstanding = {self.wire.max_outstanding} pulls are under way, all for ticks "
                f"that this client has not come to; tick first, or raise max_outstanding in its "
                f"WireConfig"
            )
        self._reads.remove(parts)
        for part in parts:
            try:
                self._conversation.answer(part)
            except ParameterServerError:
                continue  # kept in the part, for whoever waits for it

    def _settle(self, *, before: int) -> None:
        """Wait for the writes of ticks before `before`; raise the first error among them."""
        errors = []
        while self._writes and self._writes[0][0] < before:
            try:
                self._writes.popleft()[1].wait()
            except ParameterServerError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    # Names and checks

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
        self._tables, self._vectors = self._transport.ask("describe")[-1]

    def _unknown(self, what: str, name: str, known: dict[str, Any]) -> ParameterServerError:
        return ParameterServerError(
            f"parameter server group {self._transport.config.name!r} has no {what} "
            f"{name!r}{nearest(name, known)}"
        )

    def _check_writable(self) -> None:
        if self._finished:
            raise ParameterServerError(
                f"worker {self.worker} has finished; ask the server for a new client({self.worker})"
            )


def _sum(rows: np.ndarray, held: Callable[[], np.ndarray | None] | None) -> np.ndarray:
    more = None if held is None else held()
    return rows if more is None else rows + more


def _answered(parts: list[Part]) -> bool:
    return all(part.answered for part in parts)


def _wait_all(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        ticket.wait()


def _cut_of(since: Cut | int, partition: Partition) -> Cut:
    """Return how far the shards of a partition were at `since`."""
    num_shards, version = partition.num_shards, partition.version
    if isinstance(since, int):
        if since != 0 and num_shards > 1:
            raise ParameterServerError(
                f"a delta since {since} of {num_shards} shards needs a Cut, since shards count "
                f"on their own; pass the `cut` of the delta before"
            )
        since = Cut((since,) * num_shards, version)
    moved = since.version < version
    shards = (0,) * num_shards if moved or not since.shards else since.shards
    if len(shards) != num_shards:
        raise ParameterServerError(
            f"a cut of {len(shards)} shards does not fit a group of {num_shards}; start again "
            f"from Cut.zero()"
        )
    return Cut(shards, version)
