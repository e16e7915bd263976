"""Transforms that put named columns into a table: all but compositions are made on these classes.

A transform says which fields come out of a schema, its fitted form computes their arrays; schema,
placing, saving and loading follow. What is fitted are the dataclass fields of the fitted form.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError, DataError
from weiml.features.transforms.base import Accumulator, Fitted, Transform, same_transform
from weiml.features.transforms.columns import (
    from_numbers,
    is_number,
    kind_of,
    numbers,
    put,
    put_schema,
    require,
)
from weiml.features.transforms.packing import pack, unpack

__all__ = [
    "Counting",
    "Derived",
    "FittedDerived",
    "FittedNumber",
    "Nothing",
    "NumberTransform",
    "OneColumn",
    "Stateless",
]


class Derived(Transform):
    """A transform, a frozen dataclass, whose outputs are columns of its own."""

    fitted_type: ClassVar[type[FittedDerived]]

    @abstractmethod
    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return the columns that are put into a table of `schema`.

        Raises:
            DataError: a column is missing or of a type that the transform cannot take.
        """

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema with the transform's own columns put in."""
        return put_schema(schema, self.fields(schema))

    def to_mapping(self) -> dict[str, Any]:
        """Return the dataclass's fields, and the name under ``type``."""
        return {"type": self.name, **to_mapping(self)}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str = "transform") -> Self:
        """Build the transform from `to_mapping`'s result without its ``type``.

        Raises:
            ConfigError: a key is unknown or missing, or a value does not fit.
        """
        return from_mapping(cls, mapping, where=where)

    @classmethod
    def read_state(cls, transform: Transform, state: Mapping[str, Any]) -> FittedDerived:
        """Build the fitted form from its state as `Fitted.to_mapping` wrote it."""
        values = {key: unpack(value) for key, value in state.items()}
        return cls.fitted_type(transform, **values)


@dataclass(frozen=True, eq=False)
class FittedDerived(Fitted):
    """The fitted form of a `Derived` transform: a frozen dataclass of what was fitted."""

    of: Transform

    @abstractmethod
    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the arrays of the columns that are put in, in the order of `Derived.fields`."""

    @property
    def transform(self) -> Transform:
        """What was fitted."""
        return self.of

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the table with the transform's own columns put in."""
        assert isinstance(self.of, Derived)
        fields = self.of.fields(table.schema)
        return put(table, fields, self.arrays(table))

    def to_mapping(self) -> dict[str, Any]:
        """Return the transform's configuration and the fitted fields."""
        state = {
            field.name: pack(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.init and field.name != "of"
        }
        return {"transform": self.of.to_mapping(), "state": state}


class Nothing(Accumulator):
    """The accumulator of a transform that learns nothing."""

    def __init__(self, transform: Derived) -> None:
        self.transform = transform

    def add(self, table: pa.Table) -> None:
        """Check the table's columns."""
        self.transform.fields(table.schema)

    def merge(self, other: Self) -> None:
        """Do nothing: there is nothing to merge."""
        same_transform(self.transform, other.transform)

    def fitted(self) -> FittedDerived:
        """Return the transform, ready to be applied."""
        return self.transform.fitted_type(self.transform)


class Stateless(Derived):
    """A transform that learns nothing from data."""

    learns: ClassVar[bool] = False

    def accumulator(self) -> Accumulator:
        """Return an accumulator that only checks columns."""
        return Nothing(self)


class Counting(Accumulator):
    """An accumulator that counts rows, and refuses to fit on none.

    What it keeps is up to `_see`, `_join` and `_finish`.
    """

    def __init__(self, transform: Derived) -> None:
        self.transform = transform
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Take in the rows of a table."""
        self.transform.fields(table.schema)
        self._see(table)
        self.rows += table.num_rows

    def merge(self, other: Self) -> None:
        """Take in what another accumulator has seen."""
        same_transform(self.transform, other.transform)
        self._join(other)
        self.rows += other.rows

    def fitted(self) -> Fitted:
        """Return the fitted transform; DataError when there were no rows at all."""
        if self.rows == 0:
            raise DataError(f"{self.transform} cannot be fitted: there were no rows")
        return self._finish()

    @abstractmethod
    def _see(self, table: pa.Table) -> None: ...

    @abstractmethod
    def _join(self, other: Self) -> None: ...

    @abstractmethod
    def _finish(self) -> Fitted: ...


@dataclass(frozen=True)
class OneColumn(Derived):
    """A transform of one column, into one column unless a subclass says otherwise."""

    column: str
    output: str | None = dataclasses.field(default=None, kw_only=True)
    """The name of what comes out; the input is replaced if left out."""

    def __post_init__(self) -> None:
        if not self.column or self.output == "":
            raise ConfigError(f"{type(self).__name__}: names of columns must not be empty")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    @property
    def target(self) -> str:
        """The name of what comes out."""
        return self.column if self.output is None else self.output

    @property
    def outputs(self) -> tuple[str, ...]:
        """The column that comes out."""
        return (self.target,)

    def kind(self, schema: pa.Schema) -> pa.DataType:
        """Return the type of the input's values; DataError if it is missing."""
        return kind_of(schema, self.column)

    def check_number(self, schema: pa.Schema) -> None:
        """Raise DataError unless the input holds numbers."""
        kind = self.kind(schema)
        require(is_number(kind), self.column, self.name, "numbers", kind)


class NumberTransform(OneColumn):
    """A transform of one column of numbers into one of float64."""

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of float64."""
        self.check_number(schema)
        return (pa.field(self.target, pa.float64()),)


class FittedNumber(FittedDerived):
    """The fitted form of a `NumberTransform`: a function of float64 arrays."""

    @abstractmethod
    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return float64 ``(rows,)`` of float64 ``(rows,)``, elementwise; NaN stays NaN."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the computed column, null where it is not finite."""
        assert isinstance(self.of, OneColumn)
        x = numbers(table, self.of.column)
        with np.errstate(all="ignore"):
            return (from_numbers(self.compute(x)),)
