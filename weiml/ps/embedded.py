"""The parameter server in this very process: for notebooks, tests and training on one machine."""

from __future__ import annotations

from typing import Any

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig
from weiml.ps.server import ShardedParameterServer
from weiml.ps.shard import READS, WRITES, Shard
from weiml.ps.transport import Transport

__all__ = ["EmbeddedParameterServer", "EmbeddedTransport"]


class _Answer:
    """The outcome of a request; still open while the clock holds the request up."""

    def __init__(self, shard: Shard, verb: str, arguments: tuple[Any, ...]) -> None:
        self._shard = shard
        self._verb = verb
        self._arguments = arguments
        self._value: Any = None
        self._error: Exception | None = None
        self._waits_for: str | None = None
        self._open = True
        self.try_again()

    def try_again(self) -> None:
        """Run the request unless it ran already or something holds it up."""
        if not self._open:
            return
        if self._verb in READS or self._verb in WRITES:
            self._waits_for = self._shard.blocked(self._verb, self._arguments[0])
        if self._waits_for is None:
            self._open = False
            try:
                self._value = getattr(self._shard, self._verb)(*self._arguments)
            except Exception as error:  # raised when it is waited for, as over a wire
                self._error = error

    def value(self) -> Any:
        """Return the outcome or raise the error."""
        self.try_again()
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
    """Calls the shards directly. Not thread-safe."""

    name = "embedded"

    def __init__(self, config: GroupConfig) -> None:
        self.config = config
        self._shards = [Shard(config, index) for index in range(config.num_shards)]

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "an embedded parameter server lives in one process: a copy elsewhere would train "
            "tables of its own; use RayParameterServer to share one"
        )

    def send(self, shard: int, verb: str, *arguments: Any) -> _Answer:
        """Run one request now, or when it is waited for if the clock holds it up."""
        if not self._shards:
            raise ParameterServerError(f"parameter server group {self.config.name!r} is closed")
        return _Answer(self._shards[shard], verb, arguments)

    def result(self, shard: int, handle: _Answer) -> Any:
        """Return the outcome of one request."""
        return handle.value()

    def close(self) -> None:
        """Let go of the shards."""
        self._shards = []


class EmbeddedParameterServer(ShardedParameterServer):
    """A parameter server in this process, for one thread that plays all workers in turn.

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

    def __init__(
        self,
        num_shards: int = 1,
        num_workers: int = 1,
        staleness: int | None = 0,
        *,
        name: str = "embedded",
    ) -> None:
        super().__init__(
            EmbeddedTransport(
                GroupConfig(
                    name=name, num_shards=num_shards, num_workers=num_workers, staleness=staleness
                )
            )
        )
