"""A client's requests cut into one part a shard, and cut again when buckets have moved.

It knows the partition and the shape of requests, neither how they travel nor what they mean.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weiml.ps.functions.registry import PsFunction
from weiml.ps.partition import Partition
from weiml.ps.shard.transfer import Stamp
from weiml.ps.wire import Encoded

__all__ = ["EveryShard", "FunctionRequest", "Part", "Request", "RowRequest", "VectorRequest"]


@dataclass(eq=False)
class Part:
    """What one shard gets of a request."""

    request: Request
    shard: int
    places: np.ndarray | None = None
    """Places of its keys or numbers in the request's arrays; None: all of them, in order."""
    number: int = 0
    """In the order in which the client made its parts."""
    stamp: Stamp | None = None
    message: Any = None
    """What stood for its keys on the wire."""
    order: np.ndarray | None = None
    """In which order its rows were sent; None: in their own."""
    handle: Any = None
    answered: bool = False
    answer: Any = None
    error: Exception | None = None
    replaced: list[Part] | None = None
    """What was sent instead, of a write whose buckets had moved."""


class Request(abc.ABC):
    """One request of a client. `verb` names the method of the shard."""

    verb: str

    @abc.abstractmethod
    def cut(self, partition: Partition, places: np.ndarray | None = None) -> list[Part]:
        """Return the parts of all of the request, or of the given places of it."""

    def cut_again(self, part: Part, before: Partition, now: Partition) -> list[Part]:
        """Return what to send instead of a part that was refused because buckets have moved."""
        return self.cut(now, part.places)

    @abc.abstractmethod
    def arguments(self, part: Part) -> tuple[Any, ...]:
        """Return what the shard's method gets after the stamp."""


@dataclass(eq=False)
class RowRequest(Request):
    """A request about keys; the shard gets (before…, keys, after…)."""

    verb: str
    keys: np.ndarray
    before: tuple[Any, ...]
    after: tuple[Any, ...] = ()
    """Arrays and encoded rows of len(keys) are cut with the keys, the rest is sent whole."""
    rows: int | None = None
    """Of a dense table: its keys are placed by range."""

    def cut(self, partition: Partition, places: np.ndarray | None = None) -> list[Part]:
        """Cut by the shards of the keys; shards without a key get nothing."""
        if partition.num_shards == 1:
            return [Part(self, 0, places)]
        split = partition.split(self.keys if places is None else self.keys[places], self.rows)
        parts = []
        for shard in range(partition.num_shards):
            own = split.part(shard)
            if own.stop > own.start:
                order = split.order[own]
                parts.append(Part(self, shard, order if places is None else places[order]))
        return parts

    def arguments(self, part: Part) -> tuple[Any, ...]:
        """Return the part's keys and what belongs to them."""
        at = part.places
        if at is None:
            return (*self.before, self.keys, *self.after)
        after = [_cut(value, at, len(self.keys)) for value in self.after]
        return (*self.before, self.keys[at], *after)


@dataclass(eq=False)
class VectorRequest(Request):
    """A request about a vector: all of it, or differences of all of it."""

    verb: str
    name: str
    length: int
    values: np.ndarray | None = None
    recut: bool = False

    def cut(self, partition: Partition, places: np.ndarray | None = None) -> list[Part]:
        """Cut by range; reads go to every shard with a part, however short."""
        whole = [partition.vector_index(self.length, s) for s in range(partition.num_shards)]
        if places is not None:
            self.recut = True
            whole = [index[np.isin(index, places, assume_unique=True)] for index in whole]
        return [
            Part(self, shard, index)
            for shard, index in enumerate(whole)
            if len(index) or (self.length == 0 and shard == 0)
        ]

    def arguments(self, part: Part) -> tuple[Any, ...]:
        """Return (name, places) of a read; a write has its differences too.

        None for places: all that the shard has of the vector.
        """
        assert part.places is not None
        places = part.places if self.recut else None
        if self.values is None:
            return (self.name, places)
        return (self.name, places, self.values[part.places])


@dataclass(eq=False)
class EveryShard(Request):
    """A request that each shard gets alike: a tick, a function over all rows."""

    verb: str
    rest: tuple[Any, ...] = ()
    by_shard: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def cut(self, partition: Partition, places: np.ndarray | None = None) -> list[Part]:
        """One part a shard."""
        return [Part(self, shard) for shard in range(partition.num_shards)]

    def cut_again(self, part: Part, before: Partition, now: Partition) -> list[Part]:
        """Each shard still owes its own; shards that are new share what the first one owes."""
        owing = [part.shard] if part.shard < now.num_shards else []
        if part.shard == 0:
            owing += range(before.num_shards, now.num_shards)
        return [Part(self, shard) for shard in owing]

    def arguments(self, part: Part) -> tuple[Any, ...]:
        """Return the same for every shard, unless the request says otherwise."""
        return self.by_shard.get(part.shard, self.rest)


@dataclass(eq=False)
class FunctionRequest(Request):
    """A function over all that the shards hold, bucket by bucket; places of parts are buckets."""

    verb: str
    function: PsFunction
    values: tuple[Any, ...]
    num_buckets: int = 0

    def cut(self, partition: Partition, places: np.ndarray | None = None) -> list[Part]:
        """One part a shard, for its buckets among `places`."""
        self.num_buckets = partition.num_buckets
        parts = []
        for shard in range(partition.num_shards):
            buckets = partition.buckets_at(shard)
            if places is not None:
                buckets = np.intersect1d(buckets, places).astype(np.int32)
            if len(buckets):
                parts.append(Part(self, shard, buckets))
        return parts

    def arguments(self, part: Part) -> tuple[Any, ...]:
        """Return (name, no keys, the buckets, the function's arguments for them)."""
        assert part.places is not None
        values = self.function.part(self.values, part.places, self.num_buckets)
        return (self.function.name, None, part.places, values)


def _cut(value: Any, at: np.ndarray, size: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_cut(item, at, size) for item in value)
    if isinstance(value, Encoded) and len(value) == size:
        return value.take(at)
    if isinstance(value, np.ndarray) and value.ndim and len(value) == size:
        return value[at]
    return value
