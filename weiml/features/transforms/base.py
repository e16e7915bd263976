"""What a transform is: a function of columns, fitted on data in mergeable parts, saved as JSON.

Three stages, each immutable but the middle one: a `Transform` says what to do (configuration); its
`Accumulator` sees training tables, one part a worker, and parts merge; the `Fitted` transform that
comes out is applied offline and online by the same code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import pyarrow as pa

__all__ = ["Accumulator", "Fitted", "Transform"]


class Transform(ABC):
    """What to compute from which columns. Frozen."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read."""

    @abstractmethod
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns of a table of `schema` once transformed, without any data.

        Raises:
            DataError: a column is missing or of a type that the transform cannot take.
        """

    @abstractmethod
    def accumulator(self) -> Accumulator:
        """Return an accumulator that has seen nothing."""

    def fit(self, table: pa.Table) -> Fitted:
        """Fit on one table.

        Raises:
            DataError: as `output_schema`, or the table gives too little to fit on.
        """
        seen = self.accumulator()
        seen.add(table)
        return seen.fitted()


class Accumulator(ABC):
    """What a transform has to remember of the training data. Picklable; not thread-safe."""

    @abstractmethod
    def add(self, table: pa.Table) -> None:
        """Take in the rows of a table."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another accumulator of the same transform has seen, after one's own."""

    @abstractmethod
    def fitted(self) -> Fitted:
        """Return the fitted transform.

        Raises:
            DataError: too little has been seen.
        """


class Fitted(ABC):
    """A transform that is ready to be applied. Immutable, so thread-safe; picklable."""

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """What was fitted."""

    @abstractmethod
    def apply(self, table: pa.Table) -> pa.Table:
        """Return the table transformed, row by row: of the schema that `output_schema` gives.

        Each row's result depends on that row alone.

        Raises:
            DataError: a column is missing or of another type.
        """

    @abstractmethod
    def to_mapping(self) -> dict[str, Any]:
        """Return all of it as plain dictionaries, lists and numbers."""
