"""What a client's rows become on the wire, and what a shard makes of it again.

Puts the pieces of `weiml.ps.wire` together as a `WireConfig` asks; exact by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from weiml.ps.base import PullWhat
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.sparse import SparseTable, TableConfig
from weiml.ps.wire import (
    Compressor,
    Encoded,
    KeyMessage,
    KeyReceiver,
    KeySender,
    SomeRows,
    WireConfig,
    decode,
    encode,
)

__all__ = ["Rows", "Sender", "encoded", "read_rows", "received", "received_keys"]


class Rows(NamedTuple):
    """The rows of one push as they are sent."""

    keys: np.ndarray
    values: Any
    counts: Any = None
    squares: Any = None


class Sender:
    """One client's side of the wire; adds to bytes_sent and bytes_received of `counts`."""

    def __init__(self, wire: WireConfig, counts: dict[str, int]) -> None:
        self.wire = wire
        self.counts = counts
        self._compressor = Compressor(wire) if wire.compresses else None
        self._keys: dict[int, KeySender] = {}
        self._empty: dict[str, SparseTable] = {}

    def reduce(
        self,
        table: str,
        what: Any,
        keys: np.ndarray,
        values: np.ndarray,
        counts: np.ndarray | None,
        squares: np.ndarray | None,
    ) -> list[Rows]:
        """Return the pushes to send for one: rounded, the largest rows only, as configured."""
        if self._compressor is None:
            return [Rows(keys, values, counts, squares)]
        pushes = self._compressor.compress(table, what, keys, values, counts, squares)
        return [Rows(p.keys, p.values, p.counts, p.squares) for p in pushes]

    def held(
        self, table: str, keys: np.ndarray, *, at_once: bool
    ) -> Callable[[], np.ndarray | None] | None:
        """Return how to get what of the keys' differences is not sent yet, for a pulled state.

        With it a client reads its own writes although part of them has not left. `at_once`: as it
        is now; otherwise as it will be when asked.
        """
        if self._compressor is None:
            return None
        if not at_once:
            return partial(self._compressor.held, table, "differences", keys)
        rows = self._compressor.held(table, "differences", keys)
        return lambda: rows

    def drain(self) -> Iterator[tuple[str, Any, Rows]]:
        """Yield (table, what, rows) of all that was held back, and forget it."""
        if self._compressor is not None:
            for table, what, push in self._compressor.flush():
                yield table, what, Rows(push.keys, push.values, push.counts, push.squares)

    def prepare(
        self, shard: int, arguments: tuple[Any, ...], failed: KeyMessage | None = None
    ) -> tuple[tuple[Any, ...], np.ndarray | None]:
        """Return the arguments (name, keys, …) as they are sent, and the order their rows got.

        `failed` is the message for these keys that the shard did not understand.
        """
        order = None
        if self.wire.codes_keys:
            sender = self._keys.setdefault(shard, KeySender(self.wire))
            name, keys, *rest = arguments
            sent = sender.send(keys) if failed is None else sender.resend(keys, failed)
            if sent.order is not None:
                order = sent.order
                rest = [_reordered(value, order, len(keys)) for value in rest]
            arguments = (name, sent.message, *rest)
        self.counts["bytes_sent"] += sum(_nbytes(value) for value in arguments)
        return arguments, order

    def forget(self, shard: int | None = None) -> None:
        """Take it that a shard, or every shard, remembers no key list."""
        if shard is None:
            self._keys.clear()
        else:
            self._keys.pop(shard, None)

    def receive(
        self, answer: Any, fresh: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray:
        """Return pulled rows: float32 (n, width), perhaps read-only.

        ``fresh(places)`` makes rows that the answer leaves out.
        """
        self.counts["bytes_received"] += _nbytes(answer)
        if isinstance(answer, SomeRows):
            assert fresh is not None
            return answer.filled(fresh)
        return decode(answer) if isinstance(answer, Encoded) else answer

    def fresh(self, config: TableConfig, keys: np.ndarray, what: PullWhat) -> np.ndarray:
        """Return what a shard would give for keys that it does not have, bit by bit."""
        if config.name not in self._empty:
            self._empty[config.name] = SparseTable(config, 2)
        return read_rows(self._empty[config.name], keys, what)


def read_rows(table: SparseTable | DenseTable, keys: np.ndarray, what: PullWhat) -> np.ndarray:
    """Return what a pull asks for of `keys`: a new float32 (n, dim) or (n, width)."""
    if what == "weights":
        return table.pull_weights(keys)
    state = table.pull_state(keys)
    return state if what == "state" else table.config.optimizer.training_weights(state)


def encoded(values: np.ndarray, codec: Any) -> Any:
    """Return rows float32 (n, width) as a pull's answer sends them."""
    return values if codec == "float32" else encode(values, codec)


def received(values: Any) -> Any:
    """Return what was sent as float32: (n, width), or (n,) of counts; None stays None."""
    return decode(values) if isinstance(values, Encoded) else values


def received_keys(receiver: KeyReceiver, client: str, keys: Any) -> np.ndarray | None:
    """Return keys uint64 (n,) however they came; None if they are not understood."""
    return receiver.receive(client, keys) if isinstance(keys, KeyMessage) else keys


def _reordered(value: Any, order: np.ndarray, size: int) -> Any:
    if isinstance(value, Encoded):
        return value.take(order)
    return value[order] if isinstance(value, np.ndarray) and len(value) == size else value


def _nbytes(value: Any) -> int:
    return int(getattr(value, "nbytes", 0))
