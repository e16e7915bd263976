"""What a transform is: a function of columns, fitted on data in mergeable parts, saved as JSON.

Three stages, each immutable but the middle one: a `Transform` says what to do (configuration); its
`Accumulator` sees training tables, one part a worker, and parts merge; the `Fitted` transform that
comes out is applied offline and online by the same code.

What holds for all of them:

- Outputs are columns with names. Where a transform makes one column of one column, `output` names
  it and stands for the input's own name if left out: the input is replaced, in its place. Where it
  makes several, or reads several, they are named ``<output>_<part>``. An output takes the place of
  the column of that name; otherwise it is appended. All other columns stay as they are.
- A number is *missing* if it is null, NaN or infinite. Missing numbers are left out in fitting and
  come out as null, unless the transform is there to treat them.
- Fitting on parts and merging them, in any grouping, gives the bits of fitting on all at once.
- Fitting on no rows at all is an error; on rows whose values are all missing it is not.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import pyarrow as pa

from weiml.errors import DataError
from weiml.files import written_aside

__all__ = ["FORMAT", "Accumulator", "Fitted", "Transform", "fit_tables", "same_transform"]

FORMAT = 1
"""Of files of fitted transforms."""


class Transform(ABC):
    """What to compute from which columns. Frozen, so thread-safe; picklable."""

    name: ClassVar[str]
    """By which the registry knows it, in files and configurations."""
    learns: ClassVar[bool] = True
    """Whether fitting needs data; if not, an accumulator that has seen nothing will do."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read when the fitted transform is applied."""

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """The columns that are read when it is fitted: the label too, where it learns from one."""
        return self.inputs

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The columns that are written, new ones or in place of those of their names."""

    @abstractmethod
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns of a table of `schema` once transformed, without any data.

        Raises:
            DataError: a column is missing or of a type that the transform cannot take.
        """

    @abstractmethod
    def accumulator(self) -> Accumulator:
        """Return an accumulator that has seen nothing."""

    @abstractmethod
    def to_mapping(self) -> dict[str, Any]:
        """Return the configuration as plain dictionaries and lists, the name under ``type``."""

    def fit(self, table: pa.Table) -> Fitted:
        """Fit on one table.

        Raises:
            DataError: as `output_schema`, or the table gives too little to fit on.
        """
        return fit_tables(self, lambda: (table,))


class Accumulator(ABC):
    """What a transform has to remember of the training data. Picklable; not thread-safe."""

    @abstractmethod
    def add(self, table: pa.Table) -> None:
        """Take in the rows of a table.

        Raises:
            DataError: a column is missing or of another type.
        """

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another accumulator of the same transform has seen, after one's own.

        Raises:
            DataError: it is of another transform.
        """

    def then(self) -> Accumulator | None:
        """Return the accumulator of the next pass over the data, None if this was the last.

        All parts must be merged before. Only a `Chain` of several stages that learn has more than
        one pass; `fit_tables` shows the loop.
        """
        return None

    @abstractmethod
    def fitted(self) -> Fitted:
        """Return the fitted transform, after the last pass.

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

        Each row's result depends on that row alone. The table given stays as it is.

        Raises:
            DataError: a column is missing or of another type.
        """

    @abstractmethod
    def to_mapping(self) -> dict[str, Any]:
        """Return all of it as plain dictionaries, lists and numbers.

        ``transform`` holds the configuration, ``state`` what was fitted.
        """

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all; `registry.load_fitted` reads it."""
        tree = {"format": FORMAT, **self.to_mapping()}
        text = json.dumps(tree, indent=1, allow_nan=False)
        with written_aside(path) as aside:
            aside.write_text(text, encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Fitted)
            and type(self) is type(other)
            and self.to_mapping() == other.to_mapping()
        )

    def __hash__(self) -> int:
        return hash(self.transform)


def fit_tables(transform: Transform, tables: Callable[[], Iterable[pa.Table]]) -> Fitted:
    """Fit on tables that can be read several times: `tables` is called once a pass.

    With several workers, each pass is the same loop: every worker adds its tables to a copy of
    the accumulator, the copies are merged, and `Accumulator.then` gives the next pass.

    Raises:
        DataError: as `Transform.output_schema`, or the tables give too little to fit on.
    """
    if not transform.learns:
        return transform.accumulator().fitted()
    seen: Accumulator | None = transform.accumulator()
    while seen is not None:
        for table in tables():
            seen.add(table)
        last, seen = seen, seen.then()
    return last.fitted()


def same_transform(mine: Transform, other: Transform) -> None:
    """Raise DataError unless both accumulators are of the same transform."""
    if mine != other:
        raise DataError(f"accumulators of different transforms do not merge: {mine} and {other}")
