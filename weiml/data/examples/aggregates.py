"""Aggregates by key, and counters and rates of what came within a window before each example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from weiml.config import nearest
from weiml.data.examples.columns import KNOWN_AFTER, check_columns
from weiml.data.examples.keys import check_key, check_times, key_of, times_of
from weiml.data.examples.past import window_sums
from weiml.data.examples.wide import ByKey
from weiml.errors import ConfigError, DataError

__all__ = ["AGGREGATES", "Aggregate", "Counters", "Rate"]

# What is computed of a piece, and how such parts are joined; the rest needs all values together.
_PARTIAL = {"count": "sum", "sum": "sum", "min": "min", "max": "max", "any": "any", "all": "all"}
_LARGEST = 2.0**63
AGGREGATES = (
    *_PARTIAL,
    *("mean", "count_distinct", "first", "last", "list", "stddev", "variance", "distinct"),
)
"""What can be computed of a group's values; missing ones are left out."""


@dataclass(frozen=True, kw_only=True)
class Aggregate(ByKey):
    """One example a key, with aggregates by new name: ``{"clicks": ("click", "sum")}``.

    ``("", "count")`` counts examples.
    """

    by: tuple[str, ...]
    aggregates: Mapping[str, tuple[str, str]]

    def __post_init__(self) -> None:
        for name, (column, kind) in self.aggregates.items():
            if kind not in AGGREGATES:
                raise ConfigError(f"{name}: unknown aggregate {kind!r}{nearest(kind, AGGREGATES)}")
            if not column and kind != "count":
                raise ConfigError(f"{name}: {kind} needs a column")
            if name in self.by:
                raise ConfigError(f"an aggregate cannot have the name of its key {name!r}")

    @property
    @override
    def keys(self) -> tuple[tuple[str, ...], ...]:
        return (self.by,)

    def __str__(self) -> str:
        shown = [f"{kind}({column or '*'})" for column, kind in self.aggregates.values()]
        return f"{', '.join(shown)} by {', '.join(self.by)}"

    @property
    def _is_partial(self) -> bool:
        return all(kind in _PARTIAL for _, kind in self.aggregates.values())

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        check_key(schemas[0], self.by)
        check_columns(schemas[0], self._read, str(self))
        try:
            return self._whole(schemas[0].empty_table()).schema
        except pa.ArrowException as error:
            raise DataError(f"{self}: the types do not fit: {error}") from None

    @property
    def _read(self) -> list[str]:
        return [column for column, _ in self.aggregates.values() if column]

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        return frozenset({*self.by, *self._read})

    @override
    def reduce_early(self, side: int, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        if not self._is_partial:
            yield from tables
            return
        parts = [self._whole(table) for table in tables]
        if parts:
            yield self._joined(pa.concat_tables(parts))

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        return self._joined(sides[0]) if self._is_partial else self._whole(sides[0])

    def _whole(self, table: pa.Table) -> pa.Table:
        wanted = [
            (column, kind, None) if column else ([], "count_all", None)
            for column, kind in self.aggregates.values()
        ]
        return self._grouped(table, wanted)

    def _joined(self, parts: pa.Table) -> pa.Table:
        wanted = [(name, _PARTIAL[kind], None) for name, (_, kind) in self.aggregates.items()]
        return self._grouped(parts, wanted)

    def _grouped(self, table: pa.Table, wanted: Sequence[Any]) -> pa.Table:
        for column, kind, _ in wanted:
            if kind == "sum" and pa.types.is_integer(table.schema.field(column).type):
                self._check_sum(column, table[column])
        groups = table.unify_dictionaries().group_by(list(self.by), use_threads=False)
        grouped = groups.aggregate(wanted)
        return grouped.rename_columns([*self.by, *self.aggregates])  # keys come first

    def _check_sum(self, name: str, column: pa.ChunkedArray) -> None:
        """Raise DataError where integers could add up to more than 64 bits hold."""
        sizes = pc.abs(column.cast(pa.float64(), safe=False))
        if (pc.sum(sizes).as_py() or 0.0) >= _LARGEST:
            raise DataError(
                f"{self}: whole numbers of {name!r} add up to more than 64 bits hold: cast it to "
                "float64"
            )


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A rate with a prior: ``(sum + strength · prior) / (count + strength)``."""

    of: str
    prior: float
    strength: float = 10.0

    def __post_init__(self) -> None:
        if self.strength <= 0:
            raise ConfigError(f"strength must be above 0, got {self.strength}")


@dataclass(frozen=True, kw_only=True)
class Counters(ByKey):
    """What was counted of a key within windows strictly before each example's time less a delay.

    Missing numbers, and those that are not finite, count as 0. Columns for each window:
    ``<prefix>_count_<window>``, ``<prefix>_<column>_<window>`` for each of `sums`, and
    ``<prefix>_<name>_<window>`` for each of `rates`.
    """

    by: tuple[str, ...]
    time: str
    windows: Mapping[str, int | None]
    """By name as it stands in columns, in the unit of the time column; None for all before."""
    prefix: str
    sums: tuple[str, ...] = ()
    rates: Mapping[str, Rate] = field(default_factory=dict)
    delay: int = 0
    """How long before an example another must be to be known, in the unit of the time column."""
    ticks: int = 1

    def __post_init__(self) -> None:
        if not self.windows:
            raise ConfigError("counters need at least one window")
        if self.delay < 0:
            raise ConfigError(f"delay must be at least 0, got {self.delay}")
        for name, window in self.windows.items():
            if window is not None and window <= 0:
                raise ConfigError(f"window {name!r} must be longer than 0, got {window}")

    @property
    @override
    def keys(self) -> tuple[tuple[str, ...], ...]:
        return (self.by,)

    def __str__(self) -> str:
        late = f", {self.delay / self.ticks:g} s late" if self.delay else ""
        return f"count by {', '.join(self.by)} in {', '.join(self.windows)}{late}"

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        (schema,) = schemas
        check_key(schema, self.by)
        check_columns(schema, [self.time, *self._summed], str(self))
        check_times(schema.field(self.time))
        for name in self._summed:
            self._check_known(schema.field(name))
            kind = schema.field(name).type
            if not (
                pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            ):
                raise DataError(f"{self}: {name!r} cannot be summed, it is {kind}")
        for new in self._fields():
            if new.name in schema.names:
                raise DataError(f"{self}: there is a column {new.name!r} already; choose a prefix")
            schema = schema.append(new)
        return schema

    def _check_known(self, field: pa.Field) -> None:
        """Raise DataError if a label is counted before it is known."""
        known = (field.metadata or {}).get(KNOWN_AFTER.encode())
        if known is not None and self.delay < float(known) * self.ticks:
            raise DataError(
                f"{self}: {field.name!r} is known {float(known):g} s after its example only, so "
                f"counting it needs delay={float(known):g} at least, or features see the future"
            )

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        return wanted & frozenset(schemas[0].names) | {*self.by, self.time, *self._summed}

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        (table,) = sides
        keys, times = key_of(table, self.by), times_of(table, self.time, self.ticks)
        names = self._summed
        values = np.zeros((table.num_rows, len(names)))
        for at, name in enumerate(names):
            numbers = pc.fill_null(table[name].cast(pa.float64(), safe=False), 0.0).to_numpy()
            values[:, at] = np.where(np.isfinite(numbers), numbers, 0.0)
        columns: list[np.ndarray] = []
        for window in self.windows.values():
            counts, sums = window_sums(keys, times, values, window, self.delay)
            columns += [counts.astype(np.int32)]
            columns += [sums[:, names.index(name)].astype(np.float32) for name in self.sums]
            for rate in self.rates.values():
                total = sums[:, names.index(rate.of)] + rate.strength * rate.prior
                columns += [(total / (counts + rate.strength)).astype(np.float32)]
        for new, column in zip(self._fields(), columns, strict=True):
            table = table.append_column(new, pa.array(column))
        return table

    @property
    def _summed(self) -> list[str]:
        return list(dict.fromkeys([*self.sums, *(rate.of for rate in self.rates.values())]))

    def _fields(self) -> list[pa.Field]:
        fields = []
        for window in self.windows:
            fields.append(pa.field(f"{self.prefix}_count_{window}", pa.int32()))
            for name in (*self.sums, *self.rates):
                fields.append(pa.field(f"{self.prefix}_{name}_{window}", pa.float32()))
        return fields
