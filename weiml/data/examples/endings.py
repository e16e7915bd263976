"""Endings: what an engine does with a piece's examples where they are not wanted themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from weiml.features import FeatureEncoder, KeyNames

__all__ = ["Accumulate", "M", "Mergeable", "add_names", "add_table", "count"]


class Mergeable(Protocol):
    """What remembers something of the examples that it has seen."""

    def merge(self, other: Any) -> None:
        """Take in what another has seen."""


M = TypeVar("M", bound=Mergeable)


class Accumulate(Generic[M]):
    """Gives what a piece's tables leave in an accumulator of its own."""

    def __init__(self, make: Callable[[], M], add: Callable[[M, pa.Table], None]) -> None:
        self.make, self.add = make, add

    def __call__(self, piece: int, tables: Iterator[pa.Table]) -> M:
        """Make the accumulator and show it the tables."""
        seen = self.make()
        for table in tables:
            self.add(seen, table)
        return seen


def add_table(seen: Any, table: pa.Table) -> None:
    """Show a table to an accumulator."""
    seen.add(table)


def add_names(encoder: FeatureEncoder, seen: KeyNames, table: pa.Table) -> None:
    """Show a table to what collects the names of keys."""
    seen.add(encoder.spec, encoder.prepare(table))


def count(piece: int, tables: Iterator[pa.Table]) -> int:
    """Return how many examples there are."""
    return sum(table.num_rows for table in tables)
