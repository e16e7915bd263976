"""The client of a sharded server: checks, numbers and sends requests, puts answers together.

It is the same over every transport. When a shard's process is lost it sends again what was not
acknowledged; when buckets have moved it cuts again what was refused. It knows neither processes nor
the optimizers' rules.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from weiml.config import nearest
from weiml.errors import ParameterServerError
from weiml.ps.base import Client, PullWhat, PushWhat, Ticket
from weiml.ps.delta import Cut, Delta, lacks_numbers, merge_deltas
from weiml.ps.functions import find_function, load_function_modules
from weiml.ps.kernels import first_not_below
from weiml.ps.partition import Partition
from weiml.ps.requests import (
    EveryShard,
    FunctionRequest,
    Part,
    Request,
    RowRequest,
    VectorRequest,
)
from weiml.ps.sender import Rows, Sender
from weiml.ps.shard import KEYED, WRITES, Moved, UnknownKeys
from weiml.ps.tables import TableConfig
from weiml.ps.transfer import Stamp
from weiml.ps.transport import ShardGoneError, StillWaitingError, Transport
from weiml.ps.wire import WireConfig

__all__ = ["ShardedClient"]

_PATIENCE_S = 0.25

_LARGEST_GRADIENT = np.float32(1e18)  # larger ones have no square in float32


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
        self.wire = wire or WireConfig()
        self.counts = dict.fromkeys(
            ("retries", "moved", "lost_writes", "waits", "bytes_sent", "bytes_received"), 0
        )
        self._transport = transport
        self._sender = Sender(self.wire, self.counts)
        self._bsp = config.staleness == 0
        self._id = uuid.uuid4().hex
        self._finished = False  # no more writes
        self._left = False  # outside the clock
        self._num_ticks = 0
        self._made = 0
        self._under_way: dict[int, Part] = {}  # by number
        self._refused: list[Part] = []  # writes whose buckets had moved, not sent again yet
        self._writes: deque[tuple[int, Ticket]] = deque()  # (tick, write)
        self._reads: deque[list[Part]] = deque()  # those that were not answered when last looked at
        self._partition = transport.partition
        self._ticks = [0] * self._partition.num_shards
        if worker is not None:
            self._partition, self._ticks = transport.ask_settled("join", worker, self._id)
            transport.enter(worker, self._id)
        self._seqs = [0] * self._partition.num_shards
        self._epochs: dict[int, int] = {}  # of the processes that know what this client has done
        self._ticks_acknowledged = list(self._ticks)
        self._lost: dict[int, list[tuple[int, int]]] = {}  # by shard, writes after … up to …
        self._tables: dict[str, TableConfig] = {}
        self._vectors: dict[str, int] = {}

    # Requests

    def pull(
        self, table: str, keys: np.ndarray, what: PullWhat = "weights", *, ahead: int = 0
    ) -> Ticket:
        """Ask for rows; see `Client.pull`."""
        config = self._table(table)
        _check_choice("pull", what, ("weights", "training", "state"))
        _check_keys(config, keys)
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
        return Ticket(lambda: _sum(self._gather(parts, (len(keys), width), fresh), held))

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
        _check_choice("push", what, ("gradients", "differences"))
        _check_keys(config, keys)
        width = config.dim if what == "gradients" else config.width
        where = f"table {table!r}"
        self._check_values(where, what, values, (len(keys), width), keys)
        if counts is not None:
            self._check_values(where, "counts", counts, (len(keys),), keys)
            _check_least(where, "counts", counts, 1.0)
        if squares is not None:
            self._check_values(where, "squares", squares, (len(keys), config.dim), keys)
            _check_least(where, "squares", squares, 0.0)
        if what == "differences" and not config.optimizer.sums:
            raise ParameterServerError(
                f"table {table!r}: the state of {type(config.optimizer).__name__} is not a sum, so "
                f"differences cannot be added; push what='gradients'"
            )
        self._check_writable()
        sent = self._sender.reduce(table, what, keys, values, counts, squares)
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
        _check_keys(config, keys)
        for name, values in (("shows", shows), ("clicks", clicks)):
            self._check_values(f"table {table!r}", name, values, (len(keys),), keys)
            if name not in config.statistics:
                raise ParameterServerError(
                    f"table {table!r} keeps no {name}: its statistics are {config.statistics}; "
                    f"create it with TableConfig(statistics=(…, {name!r}))"
                )
        return self._write(RowRequest("push_statistics", keys, (table,), (shows, clicks)))

    def delete(self, table: str, keys: np.ndarray) -> Ticket:
        """Remove rows; see `Client.delete`."""
        config = self._table(table)
        _check_keys(config, keys)
        return self._write(RowRequest("delete", keys, (table,), (), config.rows))

    def pull_vector(self, name: str) -> Ticket:
        """Ask for a vector; see `Client.pull_vector`."""
        length = self._vector(name)
        parts = self._read(VectorRequest("pull_vector", name, length))
        return Ticket(lambda: self._gather(parts, (length,)))

    def push_vector(self, name: str, differences: np.ndarray) -> Ticket:
        """Add to a vector; see `Client.push_vector`."""
        length = self._vector(name)
        self._check_values(f"vector {name!r}", "differences", differences, (length,), None)
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
            _check_keys(config, keys)
            request = RowRequest(verb, keys, (function,), (None, arguments), config.rows)
        if verb == "update":
            return self._write(request)
        parts = self._read(request)
        return Ticket(lambda: found.merge(*self._partials(parts)))

    def tick(self) -> Ticket:
        """End this worker's step; see `Client.tick`."""
        if self.worker is None:
            raise ParameterServerError("a client without a worker stands outside the clock")
        self._check_writable()
        self._settle(before=self._num_ticks)
        ticket = self._write(EveryShard("tick"))
        self._num_ticks += 1
        return ticket

    def wait(self, ticket: Ticket) -> Any:
        """Return the answer to a request; see `Client.wait`."""
        return ticket.wait()

    def delta(self, since: Cut | int) -> Delta:
        """Return what changed; see `Client.delta`."""
        self._adopt_newest()
        all_vectors = False
        while True:
            cut, partition = self._cut(since), self._partition
            by_shard = {shard: (n, all_vectors) for shard, n in enumerate(cut.shards)}
            request = EveryShard("delta", (0, all_vectors), by_shard)
            answers = [self._answer(part) for part in self._send(request)]
            moved = [answer.version for answer in answers if isinstance(answer, Moved)]
            if not moved and not lacks_numbers(answers):
                return merge_deltas(cut, answers, partition)
            if not moved:  # a vector changed on some shards only, and is told whole
                all_vectors = True
                continue
            self._migrate(max(moved))
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
        self._left = True
        self._transport.leave(self._id)
        self._writes.clear()

    # Sending

    def _write(self, request: Request) -> Ticket:
        self._check_writable()
        while len(self._writes) >= self.wire.max_outstanding:
            self.counts["waits"] += 1
            self._writes.popleft()[1].wait()
        parts = self._send(request)
        ticket = Ticket(lambda: self._acted(parts))
        self._writes.append((self._num_ticks, ticket))
        return ticket

    def _read(self, request: Request, ahead: int = 0) -> list[Part]:
        while self._reads and _answered(self._reads[0]):
            self._reads.popleft()
        if len(self._reads) >= self.wire.max_outstanding:
            self._reads = deque(parts for parts in self._reads if not _answered(parts))
        while len(self._reads) >= self.wire.max_outstanding:
            self.counts["waits"] += 1
            self._await_oldest_read()
        parts = self._send(request, ahead)
        self._reads.append(parts)
        return parts

    def _await_oldest_read(self) -> None:
        for parts in self._reads:
            if not any(self._is_ahead(part) for part in parts):
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
                self._answer(part)
            except ParameterServerError:
                continue  # kept in the part, for whoever waits for it

    def _is_ahead(self, part: Part) -> bool:
        bounded = self._transport.config.staleness is not None and self.worker is not None
        return bounded and part.stamp is not None and part.stamp.tick > self._ticks[part.shard]

    def _send(self, request: Request, ahead: int = 0) -> list[Part]:
        self._adopt_newest()
        parts = request.cut(self._partition)
        for part in parts:
            self._send_part(part, ahead)
        return parts

    def _send_part(self, part: Part, ahead: int = 0) -> None:
        verb, shard = part.request.verb, part.shard
        self._seqs[shard] += verb in WRITES
        # A delta reads what is applied, so it waits for this client's writes but for no clock.
        worker = None if self._left or verb == "delta" else self.worker
        tick = self._ticks[shard] + ahead
        part.stamp = Stamp(self._id, self._seqs[shard], worker, tick, self._partition.version)
        self._ticks[shard] += verb == "tick"
        self._made += 1
        part.number = self._made
        self._under_way[part.number] = part
        self._dispatch(part)

    def _dispatch(self, part: Part, *, understood: bool = True) -> None:
        shard, verb = part.shard, part.request.verb
        arguments = part.request.arguments(part)
        if verb in KEYED:
            failed = None if understood else part.message
            arguments, part.order = self._sender.prepare(shard, arguments, failed)
            part.message = arguments[1]
        try:
            part.handle = self._transport.send(shard, verb, part.stamp, *arguments)
        except ShardGoneError as gone:
            part.handle = gone
            return
        epoch = self._transport.epoch(part.handle)
        if self._epochs.setdefault(shard, epoch) != epoch:
            # Another client met the loss first. What this one sent before is to go before this.
            lost = ShardGoneError(shard, "another process took over")
            lost.epoch = self._epochs[shard]
            self._recover(lost)

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

    # Answers

    def _answer(self, part: Part) -> Any:
        """Wait for the answer to a part, past lost processes; `Moved` is an answer too."""
        if self.wire.codes_keys and not part.answered:
            self._answer_writes(part)
        deadline = time.monotonic() + self._transport.config.call_timeout_s
        while not part.answered:
            if self._attend(part, _PATIENCE_S):
                continue
            # Whoever this waits for may wait for what a lost process did not answer to this client.
            for other in list(self._under_way.values()):
                self._attend(other, 0)
            if time.monotonic() > deadline:
                raise self._silent(part)
        if part.error is not None:
            raise part.error
        return part.answer

    def _attend(self, part: Part, patience_s: float) -> bool:
        """Take what came of a part; False if nothing has come in time."""
        try:
            if isinstance(part.handle, ShardGoneError):
                raise part.handle
            answer = self._transport.result(part.shard, part.handle, patience_s)
        except StillWaitingError:
            return False
        except ShardGoneError as gone:
            self._recover(gone)
        except Exception as error:
            part.error, part.answered = error, True
            self._under_way.pop(part.number, None)
        else:
            if isinstance(answer, UnknownKeys):
                self._dispatch(part, understood=False)
            else:
                self._accept(part, answer)
        return True

    def _silent(self, part: Part) -> ParameterServerError:
        config = self._transport.config
        return ParameterServerError(
            f"parameter server group {config.name!r}, shard {part.shard} did not answer within "
            f"call_timeout_s = {config.call_timeout_s:g} s"
        )

    def _answer_writes(self, part: Part) -> None:
        """Take the answers of the writes that a shard may wait for before it answers `part`.

        One whose keys were not understood has to be sent again before anything after it can act.
        """
        # Under BSP a prefetch waits for this client's tick, and so for writes made after it.
        later = self._bsp and part.request.verb not in WRITES
        for write in [p for p in self._under_way.values() if p.request.verb in WRITES]:
            if later or write.number < part.number:
                try:
                    self._answer(write)
                except ParameterServerError:
                    continue  # kept in the part, for whoever waits for it

    def _accept(self, part: Part, answer: Any) -> None:
        part.answer, part.answered = answer, True
        self._under_way.pop(part.number, None)
        if isinstance(answer, Moved):
            if part.request.verb in WRITES:
                self._refused.append(part)
        elif part.request.verb == "tick":
            self._ticks_acknowledged[part.shard] += 1

    def _recover(self, gone: ShardGoneError) -> None:
        """Wait for what stands for a lost process now, and send it all that is unanswered."""
        shard = gone.shard
        waiting = [part for part in self._under_way.values() if part.shard == shard]
        version = self._partition.version
        for part in [part for part in waiting if part.stamp and part.stamp.version < version]:
            waiting.remove(part)  # a read cut by an older partition: it is to be cut again anyway
            self._accept(part, Moved(version))
        if not waiting:
            return
        try:
            present = self._resume(gone, waiting)
        except ParameterServerError as error:
            for part in waiting:
                part.error, part.answered = error, True
                self._under_way.pop(part.number, None)
            return
        if not present:
            self._turn_elsewhere(shard, waiting)
            return
        for part in waiting:
            self.counts["retries"] += 1
            self._dispatch(part)

    def _turn_elsewhere(self, shard: int, waiting: list[Part]) -> None:
        """Take what a removed shard did not answer as acted, if it did, or as to be cut again."""
        version, done = self._partition.version, 0
        if any(part.request.verb in WRITES for part in waiting):
            done = self._transport.ask_one(0, "last_write", shard, version, self._id)
        for part in waiting:
            assert part.stamp is not None
            acted = part.request.verb in WRITES and part.stamp.seq <= done
            self._accept(part, None if acted else Moved(self._transport.partition.version))

    def _resume(self, gone: ShardGoneError, waiting: list[Part]) -> bool:
        """Say to a lost process's successor how far it was; False if the shard was removed."""
        shard = gone.shard
        # Writes that were refused are not acknowledged: they are sent again under their numbers.
        open_parts = waiting + [part for part in self._refused if part.shard == shard]
        writes = [p.stamp.seq for p in open_parts if p.stamp and p.request.verb in WRITES]
        done = min(writes) - 1 if writes else self._seqs[shard]
        worker = None if self._left else self.worker
        while self._transport.recover(gone):
            if self._transport.born(shard) > self._partition.version:
                return False  # another one has its number
            self._sender.forget(shard)
            arguments = (self._id, done, worker, self._ticks_acknowledged[shard])
            try:
                sent = self._transport.send(shard, "resume", *arguments)
                self._count_lost(shard, done, self._transport.result(shard, sent))
            except ShardGoneError as again:
                gone = again
            else:
                self._epochs[shard] = self._transport.epoch(sent)
                return True
        return False

    def _count_lost(self, shard: int, done: int, lost: int) -> None:
        """Count the last `lost` of `done` writes as lost, those that no loss before this took."""
        first = done - lost
        before = self._lost.get(shard, [])
        counted = sum(max(0, stop - max(start, first)) for start, stop in before)
        self.counts["lost_writes"] += lost - counted
        kept = [(start, min(stop, first)) for start, stop in before if start < first]
        self._lost[shard] = [*kept, (first, done)]

    def _acted(self, parts: list[Part]) -> None:
        """Wait until a write has acted, wherever its buckets are by then."""
        errors = []
        waiting = list(parts)
        while waiting:
            part = waiting.pop(0)
            try:
                answer = self._answer(part)
                if isinstance(answer, Moved):
                    self._migrate(answer.version)
                    waiting += part.replaced or []
            except ParameterServerError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _answers(self, parts: list[Part]) -> list[Any]:
        """Return the answers to a read that went to several shards, all of one partition."""
        return self._partials(parts)[0]

    def _partials(self, parts: list[Part]) -> tuple[list[Any], list[np.ndarray | None]]:
        """Return such answers with the places that each part is about."""
        while True:
            answers = [self._answer(part) for part in parts]
            moved = [answer.version for answer in answers if isinstance(answer, Moved)]
            if not moved:
                return answers, [part.places for part in parts]
            self._migrate(max(moved))
            parts = self._send(parts[0].request)

    def _gather(
        self,
        parts: list[Part],
        shape: tuple[int, ...],
        fresh: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Put the rows or numbers that a read brings where they belong.

        ``fresh(keys)`` makes rows that shards left out because they do not have them.
        """
        if len(parts) == 1 and parts[0].places is None and parts[0].order is None:
            answer = self._answer(parts[0])
            if not isinstance(answer, Moved) and parts[0].order is None:
                rows = self._sender.receive(answer, _made(fresh, parts[0]))
                return rows if rows.flags.writeable else rows.copy()
        out = np.empty(shape, np.float32)
        waiting = list(parts)
        while waiting:
            part = waiting.pop(0)
            answer = self._answer(part)
            if isinstance(answer, Moved):
                before = self._partition
                self._migrate(answer.version)
                again = part.request.cut_again(part, before, self._partition)
                for piece in again:
                    self._send_part(piece)
                waiting += again
            else:
                out[_places(part)] = self._sender.receive(answer, _made(fresh, part))
        return out

    # Buckets that moved

    def _migrate(self, version: int) -> None:
        """Go over to a newer partition: settle what is under way, send again what was refused.

        A shard refuses every write that comes after the switch, so those that were refused are the
        last ones it was sent: numbered anew, they keep their order.
        """
        for part in [p for p in self._under_way.values() if p.request.verb in WRITES]:
            try:
                self._answer(part)
            except ParameterServerError:
                continue  # kept in the part, for whoever waits for it
        refused = sorted(self._refused, key=lambda part: part.number)
        self._refused = []
        for part in refused:
            assert part.stamp is not None
            self._seqs[part.shard] = min(self._seqs[part.shard], part.stamp.seq - 1)
            self._ticks[part.shard] -= part.request.verb == "tick"
        before = self._partition
        if before.version < version:
            self._adopt(self._transport.refresh(version))
        for part in refused:
            self.counts["moved"] += 1
            part.replaced = part.request.cut_again(part, before, self._partition)
            for piece in part.replaced:
                self._send_part(piece)

    def _adopt_newest(self) -> None:
        newest = self._transport.partition
        if newest.version > self._partition.version and not self._under_way:
            self._adopt(newest)

    def _adopt(self, partition: Partition) -> None:
        """Take a newer partition; what the client knows of shards that it adds begins here."""
        before, self._partition = self._partition, partition
        shards = range(partition.num_shards)
        # A shard that was removed and added again since is another one.
        old = shards[: before.num_shards]
        known = {shard for shard in old if self._transport.born(shard) <= before.version}
        tick, acknowledged = self._ticks[0], self._ticks_acknowledged[0]
        self._seqs = [self._seqs[s] if s in known else 0 for s in shards]
        self._ticks = [self._ticks[s] if s in known else tick for s in shards]
        self._ticks_acknowledged = [
            self._ticks_acknowledged[s] if s in known else acknowledged for s in shards
        ]
        self._epochs = {s: epoch for s, epoch in self._epochs.items() if s in known}
        self._lost = {s: lost for s, lost in self._lost.items() if s in known}
        self._sender.forget()

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

    def _cut(self, since: Cut | int) -> Cut:
        """Return how far the shards of the present partition were at `since`."""
        partition = self._partition
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
        rows = values.reshape(len(values), shape[1] if len(shape) > 1 else 1)
        limit = _LARGEST_GRADIENT if what == "gradients" else np.float32(np.inf)
        at = first_not_below(np.ascontiguousarray(rows), limit)
        if at >= 0:
            which = f"place {at}" if keys is None else f"key {keys[at]}"
            worker = "an observer" if self.worker is None else f"worker {self.worker}"
            finite = np.isfinite(values[at]).all()
            wrong = "too large to be squared in float32" if finite else "not finite"
            raise ParameterServerError(
                f"{where}: {what} of {worker} for {which} are {wrong}: {values[at]}; "
                f"nothing was pushed. Lower the learning rate or look at the example"
            )


def _sum(rows: np.ndarray, held: Callable[[], np.ndarray | None] | None) -> np.ndarray:
    more = None if held is None else held()
    return rows if more is None else rows + more


def _places(part: Part) -> Any:
    """Return where the rows that a part brings belong."""
    if part.order is None:
        return slice(None) if part.places is None else part.places
    return part.order if part.places is None else part.places[part.order]


def _made(fresh: Callable[[np.ndarray], np.ndarray] | None, part: Part) -> Any:
    """Return how to make the rows at some places of a part's answer."""
    request = part.request
    if fresh is None or not isinstance(request, RowRequest):
        return None
    return lambda places: fresh(request.keys[_places(part)][places])


def _answered(parts: list[Part]) -> bool:
    return all(part.answered for part in parts)


def _wait_all(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        ticket.wait()


def _check_keys(config: TableConfig, keys: np.ndarray) -> None:
    if not isinstance(keys, np.ndarray) or keys.dtype != np.uint64 or keys.ndim != 1:
        raise ParameterServerError(
            f"table {config.name!r}: keys must be a uint64 array of one dimension, "
            f"got {_kind(keys)}"
        )
    if config.rows is not None and len(keys) and int(keys.max()) >= config.rows:
        raise ParameterServerError(
            f"table {config.name!r} is dense with rows = {config.rows}, so its keys are 0 … "
            f"{config.rows - 1}; got {int(keys.max())}"
        )


def _check_least(where: str, what: str, values: np.ndarray, least: float) -> None:
    if values.size and values.min() < least:
        raise ParameterServerError(
            f"{where}: {what} must be {least:g} or more, got {values.min():g}; see push()"
        )


def _check_choice(verb: str, what: str, choices: tuple[str, ...]) -> None:
    if what not in choices:
        raise ParameterServerError(f"{verb}: what must be one of {choices}, got {what!r}")


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__
