"""Where examples come from and go to: sources that can be cut into pieces, sinks that commit.

Whoever reads need not know where the data lies or how it is kept: a source knows its columns
before anything is read, and its pieces can be read anywhere, in any order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from weiml.data.examples import Examples

__all__ = ["FeatureSink", "FeatureSource", "Piece", "SinkWriter"]


class Piece(ABC):
    """A part of a source that one process reads. Picklable."""

    num_bytes: int | None = None
    """Its size where it is kept; None if unknown, which is taken for large."""

    @abstractmethod
    def read(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows, in order, as tables of the columns of `schema`.

        Raises:
            DataError: the piece is damaged, or has no such column.
        """


class FeatureSource(ABC):
    """Examples that lie somewhere."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Return the columns, without reading examples.

        Raises:
            DataError: there is nothing to read.
        """

    @abstractmethod
    def pieces(self) -> list[Piece]:
        """Return what can be read in parallel, in the order of the examples."""

    def read(self) -> Examples:
        """Return the examples; nothing is read before they are needed."""
        from weiml.data.examples import Examples

        return Examples.read(self)


class SinkWriter(ABC):
    """One run's writing. Picklable: pieces are written wherever they are made."""

    @abstractmethod
    def write(self, piece: int, tables: Iterable[pa.Table]) -> Any:
        """Write the examples of one piece and return what `commit` needs to know of it.

        A piece may be written again by another process, if the first one died.
        """

    @abstractmethod
    def commit(self, written: list[Any]) -> Any:
        """Make what was written visible, all at once; return what the user gets of it."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written."""


class FeatureSink(ABC):
    """Where examples can be written: all of them, or nothing is seen of it."""

    @abstractmethod
    def open(self, schema: pa.Schema) -> SinkWriter:
        """Prepare to write examples of `schema`.

        Raises:
            DataError: it cannot be written there.
        """
