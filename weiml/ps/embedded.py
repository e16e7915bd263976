"""The parameter server in this very process: for notebooks, tests and training on one machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig
from weiml.ps.functions.registry import load_function_modules
from weiml.ps.group_checkpoints import GroupCheckpoints, load_path, save_path
from weiml.ps.partition import Partition
from weiml.ps.rescale import rescale
from weiml.ps.server import ShardedParameterServer
from weiml.ps.shard.shard import READS, WRITES, Shard, UnknownKeys
from weiml.ps.transport import ShardGoneError, Transport

__all__ = ["EmbeddedParameterServer", "EmbeddedTransport"]

T = TypeVar("T")
_FEW_ROWS = 65_536 if (os.cpu_count() or 1) <= 2 else 4_096
"""Rows of one request below which waking a shard's thread is not worth it: hardly ever on two cores
that a network computes on too, early where there are more."""


class _Lane:
    """Runs what concerns one shard, in order: in a thread of its own, or at once in the caller's.

    With a thread, shards work side by side on large requests, and beside whoever waits: compiled
    loops hold no lock.
    """

    def __init__(self, index: int, *, threaded: bool) -> None:
        name = f"shard-{index}"
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name) if threaded else None
        self._last: Future[None] | None = None
        self._rows = 0

    def run(self, work: Callable[[], None], rows: int | None = None) -> None:
        """Run `work`, which raises nothing, behind all that was given before.

        It is about that many rows; a few are not worth waking a thread for. None: it tells no
        rows, as a tick, which applies those of the requests before.
        """
        self._rows = self._rows if rows is None else rows
        rests = self._last is None or self._last.done()
        if self._pool is None or (rests and self._rows < _FEW_ROWS):
            work()
        else:
            self._last = self._pool.submit(work)

    def drain(self) -> None:
        """Wait until all is done that was given."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown()


class _Answer:
    """The outcome of a request; still open while something holds the request up."""

    def __init__(self, lane: _Lane, shard: Shard, verb: str, arguments: tuple[Any, ...]) -> None:
        self._lane = lane
        self._shard = shard
        self._verb = verb
        self._arguments = arguments
        self._value: Any = None
        self._error: Exception | None = None
        self._waits_for: str | None = None
        self._open = True
        sizes = [len(array) for array in arguments if isinstance(array, np.ndarray) and array.ndim]
        lane.run(self._arrive, max(sizes, default=None))

    def _arrive(self) -> None:
        try:
            known = self._shard.arrived(self._verb, self._arguments)
        except Exception as error:  # raised when it is waited for, as over a wire
            self._error, self._open = error, False
            return
        if isinstance(known, UnknownKeys):
            self._value, self._open = known, False
        else:
            self._arguments = known
        self._try()

    def _try(self) -> None:
        """Run the request unless it ran already or something holds it up."""
        if not self._open:
            return
        stamped = self._verb in READS or self._verb in WRITES
        try:
            if stamped:
                self._waits_for = self._shard.blocked(self._verb, self._arguments[0])
            if self._waits_for is not None:
                return
            self._open = False
            if stamped:
                self._value = self._shard.serve(self._verb, *self._arguments)
            else:
                self._value = getattr(self._shard, self._verb)(*self._arguments)
        except Exception as error:
            self._error, self._open = error, False

    def value(self) -> Any:
        """Return the outcome or raise the error."""
        self._lane.drain()
        if self._open:
            self._lane.run(self._try)
            self._lane.drain()
        if self._open:
            raise ParameterServerError(
                f"this request would have to wait for {self._waits_for}. The embedded parameter "
                f"server runs in one thread: let the workers step in turn, each ticking before any "
                f"reads again, or use RayParameterServer"
            )
        if self._error is not None:
            raise self._error
        return self._value


class EmbeddedTransport(Transport):
    """Calls the shards directly, several of them in a thread each. Use it from one thread."""

    name = "embedded"

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self.workers = {}
        self._partition = Partition(config.num_shards, config.num_buckets)
        self._threaded = config.num_shards > 1
        self._lanes: list[_Lane] = []
        self._shards = [Shard(config, index) for index in range(config.num_shards)]
        self._open_lanes()
        self._born = dict.fromkeys(range(config.num_shards), 0)
        self._checkpoints = GroupCheckpoints(config) if config.checkpoint_root else None

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "an embedded parameter server lives in one process: a copy elsewhere would train "
            "tables of its own; use RayParameterServer to share one"
        )

    @property
    def shards(self) -> list[Shard]:
        """The shards, at rest."""
        for lane in self._lanes:
            lane.drain()
        return self._shards

    def _open_lanes(self) -> None:
        for index in range(len(self._lanes), len(self._shards)):
            self._lanes.append(_Lane(index, threaded=self._threaded))

    def _close_lanes(self, left: int) -> None:
        for lane in self._lanes[left:]:
            lane.close()
        del self._lanes[left:]

    @property
    def partition(self) -> Partition:
        """The partition in force."""
        return self._partition

    def refresh(self, version: int) -> Partition:
        """Return the partition in force."""
        return self._partition

    def send(self, shard: int, verb: str, *arguments: Any) -> _Answer:
        """Run one request now, or when it is waited for if something holds it up."""
        if not self._shards:
            raise ParameterServerError(f"parameter server group {self.config.name!r} is closed")
        if shard >= len(self._shards):
            raise ShardGoneError(shard, "it was removed")
        return _Answer(self._lanes[shard], self._shards[shard], verb, arguments)

    def result(self, shard: int, handle: _Answer, patience_s: float | None = None) -> Any:
        """Return the outcome of one request."""
        return handle.value()

    def born(self, shard: int) -> int:
        """Return the version of the partition that brought a shard."""
        return self._born[shard]

    def recover(self, gone: ShardGoneError) -> bool:
        """Shards of one process are lost only by being removed."""
        return False

    def rescale(self, num_shards: int) -> None:
        """Move buckets; between two calls of the one thread nothing is on its way."""
        moving = rescale(_Peers(self), self._partition, num_shards, barrier=False, timeout_s=0.0)
        _run(moving)

    def checkpoint(self, full: bool) -> str:
        """Take the next checkpoint below checkpoint_root."""
        if self._checkpoints is None:
            raise ParameterServerError(
                f"parameter server group {self.config.name!r} has no checkpoint_root; give one at "
                f"its creation, or save to a path"
            )
        version = self._partition.version
        return _run(self._checkpoints.take(self._ask_all, full=full, version=version))

    def save(self, path: str) -> None:
        """Write a full checkpoint to `path`."""
        _run(save_path(path, self.config.num_buckets, self._ask_all))

    def load(self, path: str) -> None:
        """Replace the content of all shards by a checkpoint's."""
        _run(load_path(path, self._ask_all))

    async def _ask_all(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(shard, method)(*arguments) for shard in self.shards]

    def publish(self, partition: Partition) -> None:
        """Put a partition in force."""
        self._partition = partition
        shards = range(partition.num_shards)
        self._born = {shard: self._born.get(shard, partition.version) for shard in shards}

    def add_shard(self, shard: Shard) -> None:
        """Add the next shard."""
        self._shards.append(shard)
        self._open_lanes()

    def remove_shards(self, left: int) -> None:
        """Remove the shards from number `left` on."""
        self._close_lanes(left)
        del self._shards[left:]

    def close(self) -> None:
        """Let go of the shards."""
        self._close_lanes(0)
        self._shards = []


class _Peers:
    """The shards as `weiml.ps.rescale` needs them."""

    def __init__(self, transport: EmbeddedTransport) -> None:
        self._transport = transport

    async def ask(self, shard: int, verb: str, *arguments: Any) -> Any:
        return getattr(self._transport.shards[shard], verb)(*arguments)

    async def pass_on(
        self, source: int, verb: str, arguments: tuple[Any, ...], target: int, into: str
    ) -> None:
        await self.ask(target, into, await self.ask(source, verb, *arguments))

    async def start(self, shard: int, partition: Partition) -> None:
        self._transport.add_shard(Shard(self._transport.config, shard, partition))

    async def stop(self, shard: int) -> None:
        self._transport.remove_shards(shard)

    async def decide(self, partition: Partition) -> None:
        return None

    async def publish(self, partition: Partition) -> None:
        self._transport.publish(partition)


class EmbeddedParameterServer(ShardedParameterServer):
    """A parameter server in this process, for one thread that plays all workers in turn.

    Several shards work on large requests side by side, in a thread each: take as many as there are
    cores to spare, and one where there are two cores.

    Further arguments are fields of `GroupConfig`.

    Example:
        >>> import numpy as np
        >>> from weiml.ps import SGD, EmbeddedParameterServer, TableConfig
        >>> with EmbeddedParameterServer() as ps:
        ...     ps.create_table(TableConfig("w", optimizer=SGD(lr=0.5)))
        ...     worker = ps.client(0)
        ...     keys = np.array([7, 9], np.uint64)
        ...     _ = worker.push("w", keys, np.ones((2, 1), np.float32))
        ...     _ = worker.tick()
        ...     worker.wait(worker.pull("w", keys)).tolist()
        [[-0.5], [-0.5]]
    """

    _transport: EmbeddedTransport

    def __init__(
        self,
        num_shards: int = 1,
        num_workers: int = 1,
        staleness: int | None = 0,
        *,
        name: str = "embedded",
        **fields: Any,
    ) -> None:
        config = GroupConfig(
            name=name,
            num_shards=num_shards,
            num_workers=num_workers,
            staleness=staleness,
            **fields,
        )
        load_function_modules(config.function_modules)
        if config.replicas > 1:
            raise ParameterServerError(
                f"an embedded parameter server is one process: replicas = {config.replicas} would "
                f"all be lost with it; use RayParameterServer"
            )
        super().__init__(EmbeddedTransport(config))

    def shard(self, index: int = 0) -> Shard:
        """Return a shard itself, for work in place that a copy would slow down.

        What is written there by hand is in no clock; see `weiml.train.stream` for a user.
        """
        return self._transport.shards[index]


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("an embedded shard made a coroutine wait")
