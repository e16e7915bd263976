"""Operations on each example by itself: they are fused, and keep the order of the examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from weiml.data.examples.columns import (
    Expression,
    check_columns,
    columns_of,
    compute,
    expression_type,
    keep,
    known_after,
)
from weiml.data.examples.keys import check_key, key_of
from weiml.errors import ConfigError, DataError
from weiml.features import FeatureEncoder
from weiml.features.transforms import Fitted
from weiml.hashing import cross_keys, feature_seed

__all__ = [
    "Apply",
    "Compute",
    "Encode",
    "Filter",
    "HashRange",
    "MapTables",
    "Mask",
    "RowOperation",
    "Sample",
    "Select",
    "TableFunction",
    "fitting",
    "told",
]

TableFunction = Callable[[pa.Table], pa.Table]
Mask = Callable[[pa.Table], Any]


class RowOperation(ABC):
    """One step of a chain. Picklable."""

    @abstractmethod
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the columns that come out.

        Raises:
            DataError: a column is missing, or types do not fit.
        """

    @abstractmethod
    def start(self, piece: int) -> TableFunction:
        """Return the function for the tables of one piece, which come in their order."""

    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        """Return the columns of the input's `schema` needed for those `wanted`; None for all."""
        return None


@dataclass(frozen=True, kw_only=True)
class Filter(RowOperation):
    """Keep the examples for which a condition holds; where it is missing they go."""

    condition: Expression | Mask

    def __str__(self) -> str:
        return f"filter {_shown(self.condition)}"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        if isinstance(self.condition, pc.Expression):
            kind = expression_type(schema, self.condition, "filter")
        else:
            kind = _mask(self.condition, schema.empty_table()).type
        if not pa.types.is_boolean(kind):
            raise DataError(f"filter: {_shown(self.condition)} must be true or false, it is {kind}")
        return schema

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        if not isinstance(self.condition, pc.Expression):
            return None
        return wanted | columns_of(schema, self.condition)

    @override
    def start(self, piece: int) -> TableFunction:
        if isinstance(self.condition, pc.Expression):
            condition = self.condition
            return lambda table: table.filter(condition)
        mask = self.condition
        return lambda table: keep(table, _mask(mask, table))


@dataclass(frozen=True, kw_only=True)
class Sample(RowOperation):
    """Keep a share of the examples, drawn from the seed and each example's place in its piece."""

    share: float
    seed: int

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __str__(self) -> str:
        return f"sample {self.share:g}"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return schema

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        return wanted

    @override
    def start(self, piece: int) -> TableFunction:
        rng = np.random.default_rng((self.seed, piece))
        return lambda table: keep(table, pa.array(rng.random(table.num_rows) < self.share))


@dataclass(frozen=True, kw_only=True)
class HashRange(RowOperation):
    """Keep the examples whose key's hash lies in a range of 0 … 1: all of a user, or none."""

    by: tuple[str, ...]
    low: float
    high: float
    seed: int
    purpose: str
    """Goes into the hash, so that a sample of keys is no part of a split of them."""

    def __str__(self) -> str:
        return f"keep {self.low:g} … {self.high:g} of {', '.join(self.by)}"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        check_key(schema, self.by)
        return schema

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        return wanted | set(self.by)

    @override
    def start(self, piece: int) -> TableFunction:
        salt = feature_seed(f"{self.purpose} {self.seed}")

        def chosen(table: pa.Table) -> pa.Table:
            keys = key_of(table, self.by)
            place = cross_keys(np.full(keys.size, salt), keys) * 2.0**-64
            return keep(table, pa.array((self.low <= place) & (place < self.high)))

        return chosen


@dataclass(frozen=True, kw_only=True)
class Select(RowOperation):
    """Keep columns, in this order, by new name and old."""

    names: Mapping[str, str]

    def __str__(self) -> str:
        shown = [new if new == old else f"{old} as {new}" for new, old in self.names.items()]
        return f"select {', '.join(shown)}"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        check_columns(schema, list(self.names.values()), "select")
        return pa.schema([schema.field(old).with_name(new) for new, old in self.names.items()])

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        return frozenset(old for new, old in self.names.items() if new in wanted)

    @override
    def start(self, piece: int) -> TableFunction:
        names = self.names

        def select(table: pa.Table) -> pa.Table:
            held = {new: old for new, old in names.items() if old in table.column_names}
            return table.select(list(held.values())).rename_columns(list(held))

        return select


@dataclass(frozen=True, kw_only=True)
class Compute(RowOperation):
    """Add columns, or replace them, by expressions."""

    expressions: Mapping[str, Expression]

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.expressions.items())

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        for name, expression in self.expressions.items():
            kind = expression_type(schema, expression, name)
            known = known_after(schema, columns_of(schema, expression))
            schema = _with_field(schema, pa.field(name, kind, metadata=known or None))
        return schema

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        needed = set(wanted) - set(self.expressions)
        given = frozenset(schema.names)
        for name, expression in self.expressions.items():
            needed |= columns_of(schema, expression)
            schema = _with_field(schema, pa.field(name, expression_type(schema, expression, name)))
        return frozenset(needed) & given

    @override
    def start(self, piece: int) -> TableFunction:
        def computed(table: pa.Table) -> pa.Table:
            for name, expression in self.expressions.items():
                table = _with_column(table, name, compute(table, {name: expression})[name])
            return table

        return computed


@dataclass(frozen=True, kw_only=True)
class Apply(RowOperation):
    """Apply a fitted transform."""

    fitted: Fitted

    def __str__(self) -> str:
        return f"transform {self.fitted.transform}"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        transform = self.fitted.transform
        known = known_after(schema, [n for n in transform.inputs if n in schema.names])
        made = transform.output_schema(schema)
        if not known:
            return made
        return pa.schema(
            [f.with_metadata(known) if f.name in transform.outputs else f for f in made]
        )

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        return (wanted | set(self.fitted.transform.inputs)) & frozenset(schema.names)

    @override
    def start(self, piece: int) -> TableFunction:
        return self.fitted.apply


@dataclass(frozen=True, kw_only=True)
class Encode(RowOperation):
    """Encode examples to the columns of a batch, as `Batch.to_arrow` gives them."""

    encoder: FeatureEncoder
    labels: bool = True

    def __str__(self) -> str:
        return f"encode {len(self.encoder.spec.features)} features"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return self._encoded(schema.empty_table()).schema

    @override
    def start(self, piece: int) -> TableFunction:
        return self._encoded

    def _encoded(self, table: pa.Table) -> pa.Table:
        return self.encoder.encode(table, labels=self.labels).to_arrow()


@dataclass(frozen=True, kw_only=True)
class MapTables(RowOperation):
    """Call a function of tables; it sees blocks, so a row's result may depend on that row only."""

    function: TableFunction
    schema: pa.Schema | None = None
    """What the function returns; found by calling it with a table of no rows if None."""

    def __str__(self) -> str:
        return f"map {_shown(self.function)}"

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        if self.schema is not None:
            return self.schema
        try:
            empty = self.function(schema.empty_table())
        except Exception as error:
            raise DataError(
                f"{self} fails on a table of no rows ({type(error).__name__}: {error}); mend it, "
                "or say with schema= what it returns"
            ) from error
        return _a_table(empty, self).schema

    @override
    def start(self, piece: int) -> TableFunction:
        return lambda table: _a_table(self.function(table), self)


@contextmanager
def told(operation: object) -> Iterator[None]:
    """Raise what Arrow finds wrong with the data as a DataError that names the operation."""
    try:
        yield
    except pa.ArrowException as error:
        raise DataError(f"{operation}: {error}") from None


def fitting(schema: pa.Schema, table: pa.Table, operation: object) -> pa.Table:
    """Return a table with exactly the columns of a schema.

    Raises:
        DataError: a column is missing, or its values do not fit its type.
    """
    if table.schema.equals(schema):
        return table
    check_columns(table.schema, schema.names, f"{operation}: {table.column_names}")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise DataError(f"{operation}: got {table.schema}, not {schema}: {error}") from None


def _mask(mask: Mask, table: pa.Table) -> Any:
    found = mask(table)
    if isinstance(found, np.ndarray):
        found = pa.array(found)
    if not isinstance(found, (pa.Array, pa.ChunkedArray)) or len(found) != table.num_rows:
        raise DataError(
            f"filter: {_shown(mask)} must return a boolean for each of {table.num_rows} rows, got "
            f"{type(found).__name__}"
        )
    return found


def _a_table(value: object, operation: object) -> pa.Table:
    if not isinstance(value, pa.Table):
        raise DataError(f"{operation} must return a pyarrow.Table, got {type(value).__name__}")
    return value


def _with_field(schema: pa.Schema, field: pa.Field) -> pa.Schema:
    if field.name in schema.names:
        return schema.set(schema.get_field_index(field.name), field)
    return schema.append(field)


def _with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ConfigError(f"a share of examples lies in 0 … 1, got {share}")


def _shown(value: object) -> str:
    return (
        str(value) if isinstance(value, pc.Expression) else getattr(value, "__name__", repr(value))
    )
