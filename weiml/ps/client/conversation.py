"""What goes between a client and the shards: requests numbered, sent, answered, sent again.

When a shard's process is lost, what it did not answer goes to the one that speaks for the shard
now; when buckets have moved, writes that were refused are cut again and keep their order. It knows
neither tables nor what the answers mean.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from weiml.errors import ParameterServerError
from weiml.ps.client.requests import Part, Request
from weiml.ps.client.shard_numbers import ShardNumbers
from weiml.ps.partition import Partition
from weiml.ps.shard.shard import KEYED, WRITES, Moved, UnknownKeys
from weiml.ps.shard.transfer import Stamp
from weiml.ps.transport import ShardGoneError, StillWaitingError, Transport
from weiml.ps.wire.sender import Sender

__all__ = ["Conversation"]

_PATIENCE_S = 0.25


class Conversation:
    """The requests of one client, which speaks for `worker` or, with None, is an observer.

    `counts` are the client's: retries, moved and lost_writes are counted in it.
    """

    def __init__(
        self, transport: Transport, worker: int | None, sender: Sender, counts: dict[str, int]
    ) -> None:
        self.id = uuid.uuid4().hex
        self.worker = worker
        self.under_way: dict[int, Part] = {}
        """Parts without an answer, by number."""
        self._transport = transport
        self._sender = sender
        self._counts = counts
        self._left = False  # outside the clock
        self._made = 0
        self._refused: list[Part] = []  # writes whose buckets had moved, not sent again yet
        partition = transport.partition
        ticks = [0] * partition.num_shards
        if worker is not None:
            partition, ticks = transport.ask_settled("join", worker, self.id)
            transport.enter(worker, self.id)
        self._numbers = ShardNumbers(partition, ticks)

    @property
    def partition(self) -> Partition:
        """The partition that requests are cut by."""
        return self._numbers.partition

    def leave(self) -> None:
        """Stand outside the clock from now on: the worker has finished."""
        self._left = True
        self._transport.leave(self.id)

    # Sending

    def send(self, request: Request, ahead: int = 0) -> list[Part]:
        """Send a request to the shards that it is about; reads may be for `ahead` ticks later."""
        self.adopt_newest()
        parts = request.cut(self.partition)
        for part in parts:
            self.send_part(part, ahead)
        return parts

    def send_part(self, part: Part, ahead: int = 0) -> None:
        """Send one part, numbered after all that this client has sent to its shard."""
        verb, shard, numbers = part.request.verb, part.shard, self._numbers
        numbers.seqs[shard] += verb in WRITES
        # A delta reads what is applied, so it waits for this client's writes but for no clock.
        worker = None if self._left or verb == "delta" else self.worker
        tick = numbers.ticks[shard] + ahead
        part.stamp = Stamp(self.id, numbers.seqs[shard], worker, tick, self.partition.version)
        numbers.ticks[shard] += verb == "tick"
        self._made += 1
        part.number = self._made
        self.under_way[part.number] = part
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
        known = self._numbers.epochs.setdefault(shard, epoch)
        if known != epoch:
            # Another client met the loss first. What this one sent before is to go before this.
            lost = ShardGoneError(shard, "another process took over")
            lost.epoch = known
            self._recover(lost)

    def is_ahead(self, part: Part) -> bool:
        """Whether a part asks for a tick that this client has not come to."""
        bounded = self._transport.config.staleness is not None and self.worker is not None
        ticks = self._numbers.ticks
        return bounded and part.stamp is not None and part.stamp.tick > ticks[part.shard]

    # Answers

    def answer(self, part: Part) -> Any:
        """Wait for the answer to a part, past lost processes; `Moved` is an answer too."""
        if self._sender.wire.codes_keys and not part.answered:
            self._answer_writes(part)
        deadline = time.monotonic() + self._transport.config.call_timeout_s
        while not part.answered:
            if self._attend(part, _PATIENCE_S):
                continue
            # Whoever this waits for may wait for what a lost process did not answer to this client.
            for other in list(self.under_way.values()):
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
            self._fail(part, error)
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
        later = self._transport.config.staleness == 0 and part.request.verb not in WRITES
        for write in self._open_writes():
            if later or write.number < part.number:
                self._answer_quietly(write)

    def _open_writes(self) -> list[Part]:
        return [part for part in self.under_way.values() if part.request.verb in WRITES]

    def _answer_quietly(self, part: Part) -> None:
        try:
            self.answer(part)
        except ParameterServerError:
            return  # kept in the part, for whoever waits for it

    def _accept(self, part: Part, answer: Any) -> None:
        part.answer, part.answered = answer, True
        self.under_way.pop(part.number, None)
        if isinstance(answer, Moved):
            if part.request.verb in WRITES:
                self._refused.append(part)
        elif part.request.verb == "tick":
            self._numbers.ticks_acknowledged[part.shard] += 1

    def _fail(self, part: Part, error: Exception) -> None:
        part.error, part.answered = error, True
        self.under_way.pop(part.number, None)

    # Processes that were lost

    def _recover(self, gone: ShardGoneError) -> None:
        """Wait for what stands for a lost process now, and send it all that is unanswered."""
        shard = gone.shard
        waiting = [part for part in self.under_way.values() if part.shard == shard]
        version = self.partition.version
        for part in [part for part in waiting if part.stamp and part.stamp.version < version]:
            waiting.remove(part)  # a read cut by an older partition: it is to be cut again anyway
            self._accept(part, Moved(version))
        if not waiting:
            return
        try:
            present = self._resume(gone, waiting)
        except ParameterServerError as error:
            for part in waiting:
                self._fail(part, error)
            return
        if not present:
            self._turn_elsewhere(shard, waiting)
            return
        for part in waiting:
            self._counts["retries"] += 1
            self._dispatch(part)

    def _turn_elsewhere(self, shard: int, waiting: list[Part]) -> None:
        """Take what a removed shard did not answer as acted, if it did, or as to be cut again."""
        version, done = self.partition.version, 0
        if any(part.request.verb in WRITES for part in waiting):
            done = self._transport.ask_one(0, "last_write", shard, version, self.id)
        for part in waiting:
            assert part.stamp is not None
            acted = part.request.verb in WRITES and part.stamp.seq <= done
            self._accept(part, None if acted else Moved(self._transport.partition.version))

    def _resume(self, gone: ShardGoneError, waiting: list[Part]) -> bool:
        """Say to a lost process's successor how far it was; False if the shard was removed."""
        shard, numbers = gone.shard, self._numbers
        # Writes that were refused are not acknowledged: they are sent again under their numbers.
        open_parts = waiting + [part for part in self._refused if part.shard == shard]
        writes = [p.stamp.seq for p in open_parts if p.stamp and p.request.verb in WRITES]
        done = min(writes) - 1 if writes else numbers.seqs[shard]
        worker = None if self._left else self.worker
        while self._transport.recover(gone):
            if self._transport.born(shard) > self.partition.version:
                return False  # another one has its number
            self._sender.forget(shard)
            arguments = (self.id, done, worker, numbers.ticks_acknowledged[shard])
            try:
                sent = self._transport.send(shard, "resume", *arguments)
                lost = self._transport.result(shard, sent)
                self._counts["lost_writes"] += numbers.lose(shard, done, lost)
            except ShardGoneError as again:
                gone = again
            else:
                numbers.epochs[shard] = self._transport.epoch(sent)
                return True
        return False

    # Buckets that moved

    def migrate(self, version: int) -> None:
        """Go over to a newer partition: settle what is under way, send again what was refused.

        A shard refuses every write that comes after the switch, so those that were refused are the
        last ones it was sent: numbered anew, they keep their order.
        """
        for part in self._open_writes():
            self._answer_quietly(part)
        refused = sorted(self._refused, key=lambda part: part.number)
        self._refused = []
        numbers = self._numbers
        for part in refused:
            assert part.stamp is not None
            numbers.seqs[part.shard] = min(numbers.seqs[part.shard], part.stamp.seq - 1)
            numbers.ticks[part.shard] -= part.request.verb == "tick"
        before = self.partition
        if before.version < version:
            self._adopt(self._transport.refresh(version))
        for part in refused:
            self._counts["moved"] += 1
            part.replaced = self.send_again(part, before)

    def send_again(self, part: Part, before: Partition) -> list[Part]:
        """Send a part that was cut by the partition `before` to where its buckets are now."""
        pieces = part.request.cut_again(part, before, self.partition)
        for piece in pieces:
            self.send_part(piece)
        return pieces

    def adopt_newest(self) -> None:
        """Go over to the newest partition, if nothing is under way."""
        newest = self._transport.partition
        if newest.version > self.partition.version and not self.under_way:
            self._adopt(newest)

    def _adopt(self, partition: Partition) -> None:
        self._numbers.go_over(partition, self._transport.born)
        self._sender.forget()
