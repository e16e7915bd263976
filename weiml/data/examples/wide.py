"""Operations that bring examples of a key together: an exchange into partitions, then a kernel.

A partition holds all examples of its keys, in the order of the pieces that they came from, so that
the result is the same on one machine and on many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from typing_extensions import override

from weiml.data.examples.keys import check_key, key_of
from weiml.errors import ConfigError

__all__ = ["Assign", "ByKey", "Carrying", "Repartition", "Shuffle", "WideOperation"]

Assign = Callable[[pa.Table], np.ndarray]
"""Returns the partition of each row, int32 ``(n,)``."""


class WideOperation(ABC):
    """What is done with the examples of one or two sides. Picklable."""

    @abstractmethod
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        """Return the columns that come out of sides with these.

        Raises:
            DataError: a column is missing, or types do not fit.
        """

    @abstractmethod
    def assign(self, side: int, piece: int, partitions: int) -> Assign:
        """Return the function that sends the tables of one piece, in order, to partitions."""

    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        """Return the columns of a side that are needed for those `wanted`; None for all."""
        return None

    def reduce_early(self, side: int, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield less than the tables of a piece where that loses nothing; the same by default."""
        yield from tables

    @abstractmethod
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        """Return what comes out of one partition; a side without examples is an empty table."""


class Carrying(ABC):
    """An operation whose right side may be taken along to wherever the left side's pieces are."""

    @property
    def can_be_carried(self) -> bool:
        """Whether what comes out of a left example depends on it and the right side alone."""
        return True

    @abstractmethod
    def carry(self, side: pa.Table) -> Callable[[pa.Table], pa.Table]:
        """Return the function for tables of the left side, made ready once. Thread-safe."""


class ByKey(WideOperation):
    """A wide operation whose sides are partitioned by key columns."""

    @property
    @abstractmethod
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The key columns of each side."""

    @override
    def assign(self, side: int, piece: int, partitions: int) -> Assign:
        return _by_key(self.keys[side], partitions)


@dataclass(frozen=True, kw_only=True)
class Shuffle(WideOperation):
    """Put the examples in random order, fixed by the seed."""

    seed: int

    def __str__(self) -> str:
        return f"shuffle {self.seed}"

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        return schemas[0]

    @override
    def assign(self, side: int, piece: int, partitions: int) -> Assign:
        rng = np.random.default_rng((self.seed, piece))
        return lambda table: rng.integers(0, partitions, table.num_rows).astype(np.int32)

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        return wanted

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        rng = np.random.default_rng((self.seed, partition, 1))
        return sides[0].take(pa.array(rng.permutation(sides[0].num_rows)))


@dataclass(frozen=True, kw_only=True)
class Repartition(WideOperation):
    """Spread the examples over a number of pieces: by key, or evenly."""

    partitions: int
    by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.partitions < 1:
            raise ConfigError(f"partitions must be at least 1, got {self.partitions}")

    def __str__(self) -> str:
        return f"repartition {self.partitions}" + (f" by {', '.join(self.by)}" if self.by else "")

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        if self.by:
            check_key(schemas[0], self.by)
        return schemas[0]

    @override
    def assign(self, side: int, piece: int, partitions: int) -> Assign:
        return _by_key(self.by, partitions) if self.by else _in_turn(piece, partitions)

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        return wanted | set(self.by)

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        return sides[0]


def _in_turn(piece: int, partitions: int) -> Assign:
    at = piece  # so that many short pieces do not all begin with the same partition

    def assign(table: pa.Table) -> np.ndarray:
        nonlocal at
        places = (np.arange(at, at + table.num_rows) % partitions).astype(np.int32)
        at += table.num_rows
        return places

    return assign


def _by_key(names: Sequence[str], partitions: int) -> Assign:
    count = np.uint64(partitions)
    # The low bits of a key choose its place in hash tables: take the high ones here.
    return lambda table: ((key_of(table, names) >> np.uint64(32)) % count).astype(np.int32)
