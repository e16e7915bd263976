"""The parameter server's contract: what every transport offers, whatever lies below it.

The conformance suite in tests/ps/test_base.py holds both transports to it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np

from weiml.errors import ConfigError
from weiml.ps.delta import Cut, Delta
from weiml.ps.partition import NUM_BUCKETS, Partition
from weiml.ps.tables.sparse import TableConfig, check_name

if TYPE_CHECKING:
    from weiml.ps.wire import WireConfig

__all__ = ["Client", "GroupConfig", "ParameterServer", "PullWhat", "PushWhat", "Ticket"]

PullWhat: TypeAlias = Literal["weights", "training", "state"]
"""Of a row: the weights that are served, those that gradients act on (they differ where the served
ones are an average), or all of its state."""
PushWhat: TypeAlias = Literal["gradients", "differences"]


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """A group of shards that together are one parameter server."""

    name: str = "weiml-ps"
    """Unique in a Ray cluster; `RayParameterServer.connect` finds the group by it."""
    num_shards: int = 1
    """At the start; `ParameterServer.rescale` changes how many there are."""
    num_workers: int = 1
    """Workers in the clock, numbered from 0."""
    staleness: int | None = 0
    """0: BSP; s: a worker may be s ticks ahead of the slowest (SSP); None: no bound (ASP)."""
    replicas: int = 1
    """Processes that hold each shard. With 2, a push is acknowledged when both have it."""
    num_buckets: int = NUM_BUCKETS
    """Units of placement, a power of two; keys are spread over them by hash."""
    function_modules: tuple[str, ...] = ()
    """Modules that register functions and optimizers of the user's, imported by every shard."""
    checkpoint_root: str | None = None
    """Folder or URL of the checkpoints taken every `checkpoint_interval_s` and at the end."""
    checkpoint_interval_s: float | None = None
    """Seconds between checkpoints; None: only when asked and at the end."""
    full_checkpoint_every: int = 10
    """Every so many checkpoints is a full one, those between are deltas."""
    keep_checkpoints: int = 3
    """Full checkpoints that are kept, each with the deltas that go on from it."""
    end_when_done: bool = False
    """Save and end by itself when all workers have finished."""
    lease_s: float | None = 60.0
    """The group saves and ends so long after its creator was last heard of; None: never."""
    wait_timeout_s: float = 300.0
    """How long a request waits on its shard for other workers' ticks or for earlier requests."""
    call_timeout_s: float = 600.0
    """How long a client waits for a shard's answer; longer than wait_timeout_s."""
    start_timeout_s: float = 60.0
    """How long the processes of a group may take to start."""
    stop_timeout_s: float = 20.0
    """How long the processes of a group may take to be gone."""
    failover_timeout_s: float = 60.0
    """How long a client waits for a lost shard to be back, from its stand-by or a checkpoint."""
    worker_timeout_s: float | None = 60.0
    """A live worker that nothing was heard of for so long is declared dead, while others wait for
    it; None: never by silence (`ParameterServer.declare_dead` does it by hand)."""

    def __post_init__(self) -> None:
        check_name("group", self.name)
        Partition(self.num_shards, self.num_buckets)  # its errors name the knobs
        for knob in ("num_workers", "replicas", "full_checkpoint_every", "keep_checkpoints"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be 1 or more, got {getattr(self, knob)}")
        if self.staleness is not None and self.staleness < 0:
            raise ConfigError(
                f"staleness must be 0 (BSP), a positive number (SSP) or None (ASP), "
                f"got {self.staleness}"
            )
        for knob in (k for k in self.__dataclass_fields__ if k.endswith("_s")):
            value = getattr(self, knob)
            optional = "None" in str(self.__dataclass_fields__[knob].type)
            if not (optional if value is None else value > 0):
                raise ConfigError(f"{knob} must be above 0, got {value!r}")
        if self.call_timeout_s <= self.wait_timeout_s:
            raise ConfigError(
                f"call_timeout_s must be longer than wait_timeout_s = {self.wait_timeout_s:g}, "
                f"or a client gives up before its shard does; got {self.call_timeout_s:g}"
            )
        if self.checkpoint_interval_s is not None and self.checkpoint_root is None:
            raise ConfigError(
                f"checkpoint_interval_s = {self.checkpoint_interval_s:g} needs a checkpoint_root "
                f"to write to"
            )


class Ticket:
    """A request on its way. `Client.wait` ends it; waiting twice gives the same answer."""

    def __init__(self, complete: Callable[[], Any]) -> None:
        self._complete: Callable[[], Any] | None = complete
        self._answer: Any = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether the answer has been waited for."""
        return self._complete is None

    def wait(self) -> Any:
        """Return the answer, or raise what the request failed with."""
        if self._complete is not None:
            try:
                self._answer = self._complete()
            except Exception as error:
                self._error = error
            self._complete = None
        if self._error is not None:
            raise self._error
        return self._answer


class Client(abc.ABC):
    """One worker's (or one observer's) way to the tables.

    Use it from one thread at a time, do not pickle it.

    A worker's client stands in the clock: it must end each step with `tick` and the last one with
    `finish`. An observer's client (worker None) stands outside: it reads the applied state at once
    and its pushes are applied at once.

    A client's writes act in the order in which they were made, on every shard, and each push acts
    once, however often it is sent: shards that die, move buckets or come back change nothing of
    that. A read sees all that the client wrote before it; until it was waited for, it may see what
    the client wrote after it, too. Under BSP a worker's pushes are held and applied, in the order
    of the workers, when all of them have ticked: until then no pull sees them, not even the
    worker's own.

    Arrays passed to a request must not be changed before it was waited for. Arrays returned belong
    to the caller.
    """

    worker: int | None
    num_workers: int
    """Workers in the clock, whether this client is one of them or not."""
    counts: dict[str, int]
    """What it has met: retries (parts sent again after a loss), moved (parts cut again after a
    move), lost_writes (that a restored shard had lost), waits (for the oldest of max_outstanding
    writes), bytes_sent and bytes_received (of keys and rows)."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A copy would number its requests like the original, and be taken for its echo.
        raise TypeError(
            "a parameter server's client cannot be copied or sent to another process; send the "
            "server and call its client() there"
        )

    @abc.abstractmethod
    def pull(
        self, table: str, keys: np.ndarray, what: PullWhat = "weights", *, ahead: int = 0
    ) -> Ticket:
        """Ask for the rows of `keys` uint64 (n,): float32 (n, dim), or (n, width) of state.

        A missing key gives the row it would start with; nothing is inserted. A worker's pull waits
        on the shard until the staleness bound allows it. With `ahead` = 1 it is a prefetch for the
        worker's next tick: it is held to that tick's bound, and need not see the pushes that this
        client makes after it (under BSP it does see them, since it waits for the client's tick).
        """

    @abc.abstractmethod
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
        """Send gradients float32 (n, dim) or differences of state float32 (n, width) for `keys`.

        Keys should be distinct (see `unique_keys`): those of a gradient push that repeat go through
        the optimizer one after the other. Differences need an optimizer whose state is a sum.
        Gradients that are sums over several examples may come with `counts` float32 (n,), how many,
        and `squares` float32 (n, dim), the sums of the examples' squared gradients: see
        docs/optimizers.md for what each optimizer makes of them.

        Raises:
            ParameterServerError: unknown table, wrong shape or dtype, or a value that is not
                finite; then nothing was sent.
        """

    @abc.abstractmethod
    def push_statistics(
        self, table: str, keys: np.ndarray, shows: np.ndarray, clicks: np.ndarray
    ) -> Ticket:
        """Add to the shows and clicks, float32 (n,), of the rows that exist. Applied at once."""

    @abc.abstractmethod
    def delete(self, table: str, keys: np.ndarray) -> Ticket:
        """Remove the rows of `keys`, at once; deltas carry their deletion. Missing ones are fine.

        A pull gives a deleted key the row it would start with; a later push begins it anew.
        """

    @abc.abstractmethod
    def pull_vector(self, name: str) -> Ticket:
        """Ask for a vector; the answer is float32 (length,). Waits like `pull`."""

    @abc.abstractmethod
    def push_vector(self, name: str, differences: np.ndarray) -> Ticket:
        """Add `differences` float32 (length,) to a vector. Held and applied like `push`."""

    @abc.abstractmethod
    def call(self, function: str, *arguments: Any, keys: np.ndarray | None = None) -> Ticket:
        """Run a registered function on all shards; the answer is the merged one.

        With `keys` uint64 (n,), for a function over rows, each shard gets the keys it holds and the
        matching rows of every argument that is an array of length n. Reading functions wait like
        `pull`; updating ones act at once, in the client's order, once. See docs/ps-functions.md.

        Raises:
            ParameterServerError: there is no such function, or it failed on a shard.
        """

    @abc.abstractmethod
    def tick(self) -> Ticket:
        """End this worker's step. Also raises what earlier pushes, not waited for, failed with.

        The answer is the global step: the step's number, from 1, among those of all workers, in the
        order in which the first shard took their ticks. Each number is given once. 0: the shard's
        process died, and what took over counted the tick but cannot say as which.
        """

    @abc.abstractmethod
    def wait(self, ticket: Ticket) -> Any:
        """Return the answer to a request: an array for pulls, None for pushes.

        Raises:
            ParameterServerError: the request was refused or timed out, or a shard is gone.
        """

    @abc.abstractmethod
    def delta(self, since: Cut | int) -> Delta:
        """Return what changed after `since`: ``Cut.zero()`` (or 0) for all, else an earlier cut.

        Reads the applied state at once. Other integers are understood on a single shard only.

        Raises:
            ParameterServerError: `since` is of another group, or ahead of this one.
        """

    @abc.abstractmethod
    def flush(self) -> None:
        """Wait until all writes have acted, what compression held back among them."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Leave the clock, with all pushes arrived. Does nothing for an observer, or twice."""


class ParameterServer(abc.ABC):
    """A group of shards. A context manager; leaving it closes the group."""

    config: GroupConfig

    @abc.abstractmethod
    def create_table(self, config: TableConfig) -> None:
        """Create a table; nothing happens if an equal one exists.

        Raises:
            ParameterServerError: a table of that name has another configuration.
        """

    @abc.abstractmethod
    def create_vector(self, name: str, values: np.ndarray) -> None:
        """Create a vector with float32 `values`; one of that name and length stays as it is.

        Raises:
            ParameterServerError: a vector of that name has another length.
        """

    @abc.abstractmethod
    def drop_vector(self, name: str) -> None:
        """Remove a vector; nothing happens if there is none."""

    @abc.abstractmethod
    def client(self, worker: int | None = None, *, wire: WireConfig | None = None) -> Client:
        """Return a client for worker 0 … num_workers - 1, or an observer outside the clock.

        `wire` says how its rows are encoded and which share of them is sent; exact by default.

        A worker that had finished comes back into the clock; once all had finished, the first to
        come back begins a new round for all.
        """

    @abc.abstractmethod
    def status(self) -> dict[str, Any]:
        """Return counts since the start, fit for JSON.

        Keys: name, transport, num_shards, num_workers, staleness, rows, bytes, pulls, pushes, keys,
        duplicates, sequence, cut, clocks (worker: ticks), global_step (ticks of all workers
        since the start), live (workers in the clock), tables (name: rows), vectors (name: length),
        shards (a list of the same by shard, with pid).
        """

    @property
    @abc.abstractmethod
    def cut(self) -> Cut:
        """How far the shards are."""

    @property
    def sequence(self) -> int:
        """The number of applied pushes over all shards: a version that only grows."""
        return self.cut.total

    @abc.abstractmethod
    def rescale(self, num_shards: int) -> None:
        """Change the number of shards while training goes on; returns when it is done.

        Buckets move, as few as can be; no push is lost and the order of requests is kept. Requests
        wait while the last changed rows move. With a staleness bound the switch happens when all
        live workers are at the same tick.

        Raises:
            ParameterServerError: a shard failed meanwhile, or the workers did not come to a tick
                within wait_timeout_s; then everything is as before.
        """

    @abc.abstractmethod
    def declare_dead(self, worker: int) -> None:
        """Take a worker that died out of the clock, so that the others need not wait for it.

        Its pushes of the tick that it did not end are dropped.
        """

    @abc.abstractmethod
    def expire(self, table: str, *, step: int = 0, now_s: float | None = None) -> int:
        """Remove a table's rows that its expiry rule gives up, return how many."""

    @abc.abstractmethod
    def checkpoint(self, *, full: bool = False) -> str:
        """Write the next checkpoint, full or delta, below `checkpoint_root`; return its path.

        Raises:
            ParameterServerError: the group has no `checkpoint_root`, or it cannot be written.
        """

    @abc.abstractmethod
    def save(self, path: str) -> None:
        """Write a checkpoint folder: the applied state, one atomic cut per shard.

        It appears under `path` when it is complete, or not at all. Pushes held for the current
        BSP tick are not in it.

        Raises:
            ParameterServerError: `path` exists, or cannot be written.
        """

    @abc.abstractmethod
    def load(self, path: str) -> None:
        """Replace all tables and vectors by a checkpoint's, saved on any number of shards.

        Every file's checksum is verified before anything changes. Afterwards all rows count as
        changed, so that a delta from any earlier cut brings everything.

        Raises:
            ParameterServerError: the checkpoint is incomplete or damaged (the message names the
                file), or a BSP tick is under way.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End the group and make sure that its processes are gone; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
