"""Joins: of equal keys, and of the last known values before each example's time.

A join of a small side carries it to wherever the other side's pieces are; both forms have the same
kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from weiml.config import nearest
from weiml.data.examples.columns import check_columns
from weiml.data.examples.keys import check_key, key_of, times_of
from weiml.data.examples.matching import KeyIndex
from weiml.data.examples.past import SortedTimes, attribute_clicks
from weiml.data.examples.wide import ByKey, Carrying
from weiml.errors import ConfigError, DataError

__all__ = ["AsOfJoin", "How", "Join", "LabelJoin"]

How = Literal["inner", "left", "right", "outer", "semi", "anti"]
_LABEL, _DELAY = pa.float32(), pa.int64()


@dataclass(frozen=True, kw_only=True)
class Join(ByKey, Carrying):
    """Pairs of examples with equal keys; the key's columns come out once, under the left names."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How = "inner"

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ConfigError(f"unknown join {self.how!r}{nearest(self.how, get_args(How))}")
        if not self.left_on or len(self.left_on) != len(self.right_on):
            raise ConfigError(
                f"a join needs as many key columns on both sides, at least one, got "
                f"{self.left_on} and {self.right_on}"
            )

    @property
    @override
    def keys(self) -> tuple[tuple[str, ...], ...]:
        return self.left_on, self.right_on

    def __str__(self) -> str:
        return f"{self.how} join on {', '.join(self.left_on)}"

    @property
    @override
    def can_be_carried(self) -> bool:
        return self.how not in ("right", "outer")  # no example of the right comes out alone

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        left, right = schemas
        _check_kinds(left, self.left_on, right, self.right_on)
        if self.how in ("semi", "anti"):
            return left
        added = _added(left, right, self.right_on, str(self))
        return pa.schema([*left, *[right.field(name) for name in added]])

    @override
    def carry(self, side: pa.Table) -> Callable[[pa.Table], pa.Table]:
        index = KeyIndex.of(key_of(side, self.right_on))
        return lambda left: self._joined(left, side, index)

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        left, right = sides
        return self._joined(left, right, KeyIndex.of(key_of(right, self.right_on)))

    def _joined(self, left: pa.Table, right: pa.Table, index: KeyIndex) -> pa.Table:
        lefts, rights = self._pairs(left, right, index)
        matched = np.zeros(left.num_rows, np.bool_)
        matched[lefts] = True
        if self.how in ("semi", "anti"):
            return left.filter(pa.array(matched if self.how == "semi" else ~matched))
        if self.how in ("left", "outer"):
            lefts, rights = _with_unmatched(lefts, rights, matched)
        found = pa.array(rights, mask=rights < 0)
        paired = self._glue(left.take(pa.array(lefts)), right, found)
        return self._with_rest(paired, right, rights) if not self.can_be_carried else paired

    def _pairs(
        self, left: pa.Table, right: pa.Table, index: KeyIndex
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return positions of all pairs; those that only their hashes make equal are left out."""
        lefts, rights = index.match(key_of(left, self.left_on))
        equal = np.ones(lefts.size, np.bool_)
        for ours, theirs in zip(self.left_on, self.right_on, strict=True):
            values = right[theirs].take(pa.array(rights))
            same = pc.equal(left[ours].take(pa.array(lefts)), values.cast(left[ours].type))
            equal &= same.to_numpy()
        return lefts[equal], rights[equal]

    def _glue(self, left: pa.Table, right: pa.Table, rights: pa.Array) -> pa.Table:
        for name in _others(right.schema, self.right_on):
            left = left.append_column(right.schema.field(name), right[name].take(rights))
        return left

    def _with_rest(self, paired: pa.Table, right: pa.Table, rights: np.ndarray) -> pa.Table:
        """Add the right side's examples that have no pair; the key's columns hold their keys."""
        alone = np.ones(right.num_rows, np.bool_)
        alone[rights[rights >= 0]] = False
        rest = right.filter(pa.array(alone))
        columns = {field.name: pa.nulls(rest.num_rows, field.type) for field in paired.schema}
        for ours, theirs in zip(self.left_on, self.right_on, strict=True):
            columns[ours] = rest[theirs].cast(paired.schema.field(ours).type)
        columns |= {name: rest[name] for name in _others(right.schema, self.right_on)}
        return pa.concat_tables([paired, pa.table(columns, schema=paired.schema)])


@dataclass(frozen=True, kw_only=True)
class AsOfJoin(ByKey, Carrying):
    """Each left example with the right side's last one of its key before its time."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    left_time: str
    right_time: str
    within: int | None = None
    same_time: bool = False

    @property
    @override
    def keys(self) -> tuple[tuple[str, ...], ...]:
        return self.left_on, self.right_on

    def __str__(self) -> str:
        return f"as-of join on {', '.join(self.left_on)} by {self.left_time}"

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        left, right = schemas
        _check_kinds(left, self.left_on, right, self.right_on)
        _check_times(left, self.left_time, right, self.right_time)
        dropped = (*self.right_on, self.right_time)
        added = _added(left, right, dropped, str(self))
        return pa.schema([*left, *[right.field(name) for name in added]])

    @override
    def carry(self, side: pa.Table) -> Callable[[pa.Table], pa.Table]:
        past = SortedTimes.of(key_of(side, self.right_on), times_of(side, self.right_time))
        return lambda left: self._joined(left, side, past)

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        return self.carry(sides[1])(sides[0])

    def _joined(self, left: pa.Table, right: pa.Table, past: SortedTimes) -> pa.Table:
        keys, times = key_of(left, self.left_on), times_of(left, self.left_time)
        found = past.last_before(keys, times, same_time=self.same_time, within=self.within)
        rows = pa.array(found, mask=found < 0)
        for name in _others(right.schema, (*self.right_on, self.right_time)):
            left = left.append_column(right.schema.field(name), right[name].take(rows))
        return left


@dataclass(frozen=True, kw_only=True)
class LabelJoin(ByKey):
    """Impressions labelled by the clicks that followed them within a window."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    left_time: str
    right_time: str
    within: int
    label: str = "label"

    def __post_init__(self) -> None:
        if self.within < 0:
            raise ConfigError(f"within must be at least 0, got {self.within}")

    @property
    @override
    def keys(self) -> tuple[tuple[str, ...], ...]:
        return self.left_on, self.right_on

    def __str__(self) -> str:
        return f"label {self.label!r} by {', '.join(self.left_on)} within {self.within}"

    @override
    def output_schema(self, schemas: Sequence[pa.Schema]) -> pa.Schema:
        left, right = schemas
        _check_kinds(left, self.left_on, right, self.right_on)
        _check_times(left, self.left_time, right, self.right_time)
        for name in (self.label, f"{self.label}_delay"):
            if name in left.names:
                raise DataError(f"{self}: the impressions have a column {name!r} already")
        return left.append(pa.field(self.label, _LABEL)).append(
            pa.field(f"{self.label}_delay", _DELAY)
        )

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        left, right = sides
        delays = attribute_clicks(
            key_of(left, self.left_on),
            times_of(left, self.left_time),
            key_of(right, self.right_on),
            times_of(right, self.right_time),
            self.within,
        )
        labels = pa.array((delays >= 0).astype(np.float32))
        left = left.append_column(pa.field(self.label, _LABEL), labels)
        shown = pa.array(delays, mask=delays < 0)
        return left.append_column(pa.field(f"{self.label}_delay", _DELAY), shown)


def _with_unmatched(
    lefts: np.ndarray, rights: np.ndarray, matched: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add a pair (left, -1) for each left row without a match, in the left order."""
    alone = np.flatnonzero(~matched)
    lefts = np.concatenate([lefts, alone])
    rights = np.concatenate([rights, np.full(alone.size, -1)])
    order = np.argsort(lefts, kind="stable")
    return lefts[order], rights[order]


def _others(schema: pa.Schema, keys: Sequence[str]) -> list[str]:
    return [name for name in schema.names if name not in keys]


def _added(left: pa.Schema, right: pa.Schema, dropped: Sequence[str], what: str) -> list[str]:
    names = _others(right, dropped)
    both = [name for name in names if name in left.names]
    if both:
        raise DataError(
            f"{what}: both sides have a column {both[0]!r}; rename or drop it on one of them"
        )
    return names


def _check_kinds(
    left: pa.Schema, left_on: Sequence[str], right: pa.Schema, right_on: Sequence[str]
) -> None:
    ours, theirs = check_key(left, left_on), check_key(right, right_on)
    for name, other, kind, kind_of_other in zip(left_on, right_on, ours, theirs, strict=True):
        if kind != kind_of_other:
            raise DataError(
                f"keys of different types never meet: {name!r} is {left.field(name).type} on the "
                f"left, {other!r} is {right.field(other).type} on the right: cast one of them"
            )


def _check_times(left: pa.Schema, left_time: str, right: pa.Schema, right_time: str) -> None:
    check_columns(left, [left_time], "time")
    check_columns(right, [right_time], "time")
    kinds = [left.field(left_time).type, right.field(right_time).type]
    stamps = [pa.types.is_timestamp(kind) for kind in kinds]
    integers = [pa.types.is_integer(kind) for kind in kinds]
    if not (all(stamps) or all(integers)):
        raise DataError(
            f"times must be integers or timestamps, the same on both sides, got {kinds[0]} "
            f"({left_time!r}) and {kinds[1]} ({right_time!r})"
        )
