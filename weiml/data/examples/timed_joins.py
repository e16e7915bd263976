"""Joins in time: what was known before each example, and which impressions were clicked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from typing_extensions import override

from weiml.data.examples.columns import KNOWN_AFTER, check_columns
from weiml.data.examples.joins import added_columns, check_keys, check_kinds, others_than
from weiml.data.examples.keys import check_times, key_of, times_of
from weiml.data.examples.past import SortedTimes, attribute_clicks
from weiml.data.examples.wide import ByKey, Carrying
from weiml.errors import ConfigError, DataError

__all__ = ["AsOfJoin", "LabelJoin"]

_LABEL, _DELAY = pa.float32(), pa.int64()


@dataclass(frozen=True, kw_only=True)
class _InTime(ByKey):
    """Two sides with keys and times."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    left_time: str
    right_time: str
    within: int | None = None
    """How far apart in time two rows may be at most, in ticks."""
    ticks: int = 1
    """A second, in the unit in which times are counted; see `check_times`."""

    def __post_init__(self) -> None:
        check_keys(self.left_on, self.right_on)
        if self.within is not None and self.within < 0:
            raise ConfigError(f"within must be at least 0, got {self.within}")

    @property
    @override
    def keys(self) -> tuple[tuple[str, ...], ...]:
        return self.left_on, self.right_on

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        time = (self.left_time, self.right_time)[side]
        return wanted & frozenset(schemas[side].names) | {*self.keys[side], time}

    def _check(self, left: pa.Schema, right: pa.Schema) -> None:
        check_kinds(left, self.left_on, right, self.right_on)
        check_columns(left, [self.left_time], "time")
        check_columns(right, [self.right_time], "time")
        check_times(left.field(self.left_time), right.field(self.right_time))

    def _left(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        return key_of(table, self.left_on), times_of(table, self.left_time, self.ticks)

    def _right(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        return key_of(table, self.right_on), times_of(table, self.right_time, self.ticks)


@dataclass(frozen=True, kw_only=True)
class AsOfJoin(_InTime, Carrying):
    """Each left example with the right side's last one of its key before its time."""

    same_time: bool = False

    def __str__(self) -> str:
        within = "" if self.within is None else f" within {self.within / self.ticks:g} s"
        return f"as-of join on {', '.join(self.left_on)} by {self.left_time}{within}"

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        left, right = schemas
        self._check(left, right)
        added = added_columns(left, right, (*self.right_on, self.right_time), str(self))
        return pa.schema([*left, *[right.field(name).with_nullable(True) for name in added]])

    @override
    def carry(self, side: pa.Table) -> Callable[[pa.Table], pa.Table]:
        past = SortedTimes.of(*self._right(side))
        return lambda left: self._joined(left, side, past)

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        return self.carry(sides[1])(sides[0])

    def _joined(self, left: pa.Table, right: pa.Table, past: SortedTimes) -> pa.Table:
        found = past.last_before(*self._left(left), same_time=self.same_time, within=self.within)
        rows = pa.array(found, mask=found < 0)
        for name in others_than(right.schema, (*self.right_on, self.right_time)):
            field = right.schema.field(name).with_nullable(True)
            left = left.append_column(field, right[name].take(rows))
        return left


@dataclass(frozen=True, kw_only=True)
class LabelJoin(_InTime):
    """Impressions labelled by the clicks that followed them within a window."""

    label: str = "label"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.within is None:
            raise ConfigError("labels need a window: within='30m'")

    def __str__(self) -> str:
        within = f"{self._window / self.ticks:g} s"
        return f"label {self.label!r} by {', '.join(self.left_on)} within {within}"

    @property
    def _window(self) -> int:
        assert self.within is not None
        return self.within

    @property
    def _fields(self) -> tuple[pa.Field, pa.Field]:
        """Label and delay, which remember how long it takes until they are known."""
        known = {KNOWN_AFTER: str(self._window / self.ticks)}
        delay = pa.field(f"{self.label}_delay", _DELAY, metadata=known)
        return pa.field(self.label, _LABEL, metadata=known), delay

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        left, right = schemas
        self._check(left, right)
        for field in self._fields:
            if field.name in left.names:
                raise DataError(f"{self}: the impressions have a column {field.name!r} already")
        return pa.schema([*left, *self._fields])

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        left, right = sides
        delays = attribute_clicks(*self._left(left), *self._right(right), self._window)
        labels = pa.array((delays >= 0).astype(np.float32))
        label, delay = self._fields
        left = left.append_column(label, labels)
        return left.append_column(delay, pa.array(delays, mask=delays < 0))
