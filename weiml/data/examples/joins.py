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
from weiml.data.examples.keys import check_key, check_times, key_of, times_of, value_type
from weiml.data.examples.matching import KeyIndex
from weiml.data.examples.past import SortedTimes, attribute_clicks
from weiml.data.examples.wide import ByKey, Carrying
from weiml.errors import ConfigError, DataError

__all__ = ["KNOWN_AFTER", "AsOfJoin", "How", "Join", "LabelJoin"]

How = Literal["inner", "left", "right", "outer", "semi", "anti"]
KNOWN_AFTER = "weiml.known_after"
"""Of a label, in its field's metadata: how many seconds after its example it is known."""
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
        _check_keys(self.left_on, self.right_on)

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
        added = [
            right.field(name).with_nullable(True)
            for name in _added(left, right, self.right_on, str(self))
        ]
        if self.can_be_carried:
            return pa.schema([*left, *added])
        kept = {name: left.field(name).type for name in left.names}
        for ours, theirs in zip(self.left_on, self.right_on, strict=True):
            kept[ours] = _common_type(left.field(ours), right.field(theirs))
        return pa.schema([*(pa.field(name, kind) for name, kind in kept.items()), *added])

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        return wanted & frozenset(schemas[side].names) | set(self.keys[side])

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
            kind = _comparable_type(left[ours].type, right[theirs].type)
            same = pc.equal(left[ours].take(pa.array(lefts)).cast(kind), values.cast(kind))
            equal &= pc.fill_null(same, False).to_numpy()
        return lefts[equal], rights[equal]

    def _glue(self, left: pa.Table, right: pa.Table, rights: pa.Array) -> pa.Table:
        for name in _others(right.schema, self.right_on):
            field = right.schema.field(name).with_nullable(True)
            left = left.append_column(field, right[name].take(rights))
        return left

    def _with_rest(self, paired: pa.Table, right: pa.Table, rights: np.ndarray) -> pa.Table:
        """Add the right side's examples that have no pair; the key's columns hold their keys."""
        alone = np.ones(right.num_rows, np.bool_)
        alone[rights[rights >= 0]] = False
        rest = right.filter(pa.array(alone))
        kinds = {field.name: field.type for field in paired.schema}
        for ours, theirs in zip(self.left_on, self.right_on, strict=True):
            kinds[ours] = _common_type(paired.schema.field(ours), right.schema.field(theirs))
        columns = {name: pa.nulls(rest.num_rows, kind) for name, kind in kinds.items()}
        for ours, theirs in zip(self.left_on, self.right_on, strict=True):
            columns[ours] = rest[theirs].cast(kinds[ours])
        columns |= {name: rest[name] for name in _others(right.schema, self.right_on)}
        schema = pa.schema(kinds)
        return pa.concat_tables([paired.cast(schema), pa.table(columns, schema=schema)])


@dataclass(frozen=True, kw_only=True)
class AsOfJoin(ByKey, Carrying):
    """Each left example with the right side's last one of its key before its time."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    left_time: str
    right_time: str
    within: int | None = None
    same_time: bool = False
    ticks: int = 1

    def __post_init__(self) -> None:
        _check_keys(self.left_on, self.right_on)
        if self.within is not None and self.within < 0:
            raise ConfigError(f"within must be at least 0, got {self.within}")

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
        return pa.schema([*left, *[right.field(name).with_nullable(True) for name in added]])

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        time = (self.left_time, self.right_time)[side]
        return wanted & frozenset(schemas[side].names) | {*self.keys[side], time}

    @override
    def carry(self, side: pa.Table) -> Callable[[pa.Table], pa.Table]:
        past = SortedTimes.of(
            key_of(side, self.right_on), times_of(side, self.right_time, self.ticks)
        )
        return lambda left: self._joined(left, side, past)

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        return self.carry(sides[1])(sides[0])

    def _joined(self, left: pa.Table, right: pa.Table, past: SortedTimes) -> pa.Table:
        keys, times = key_of(left, self.left_on), times_of(left, self.left_time, self.ticks)
        found = past.last_before(keys, times, same_time=self.same_time, within=self.within)
        rows = pa.array(found, mask=found < 0)
        for name in _others(right.schema, (*self.right_on, self.right_time)):
            field = right.schema.field(name).with_nullable(True)
            left = left.append_column(field, right[name].take(rows))
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
    ticks: int = 1

    def __post_init__(self) -> None:
        _check_keys(self.left_on, self.right_on)
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
        return left.append(self._field).append(pa.field(f"{self.label}_delay", _DELAY))

    @property
    def _field(self) -> pa.Field:
        """The label, which remembers how long it takes until it is known."""
        seconds = str(self.within / self.ticks)
        return pa.field(self.label, _LABEL, metadata={KNOWN_AFTER: seconds})

    @override
    def needed(
        self, side: int, wanted: frozenset[str], schemas: Sequence[pa.Schema]
    ) -> frozenset[str] | None:
        time = (self.left_time, self.right_time)[side]
        return wanted & frozenset(schemas[side].names) | {*self.keys[side], time}

    @override
    def combine(self, sides: Sequence[pa.Table], partition: int) -> pa.Table:
        left, right = sides
        delays = attribute_clicks(
            key_of(left, self.left_on),
            times_of(left, self.left_time, self.ticks),
            key_of(right, self.right_on),
            times_of(right, self.right_time, self.ticks),
            self.within,
        )
        labels = pa.array((delays >= 0).astype(np.float32))
        left = left.append_column(self._field, labels)
        shown = pa.array(delays, mask=delays < 0)
        return left.append_column(pa.field(f"{self.label}_delay", _DELAY), shown)


def _check_keys(left_on: Sequence[str], right_on: Sequence[str]) -> None:
    if not left_on or len(left_on) != len(right_on):
        raise ConfigError(
            f"a join needs as many key columns on both sides, at least one, got {tuple(left_on)} "
            f"and {tuple(right_on)}"
        )


def _comparable_type(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """Return a type in which keys of one kind can be compared."""
    ours, theirs = value_type(left), value_type(right)
    if pa.types.is_integer(ours) and pa.uint64() in (ours, theirs) and ours != theirs:
        return pa.decimal128(20)
    return _common_type(pa.field("", ours), pa.field("", theirs))


def _common_type(left: pa.Field, right: pa.Field) -> pa.DataType:
    """Return the type that holds the keys of both sides, which are of one kind.

    Raises:
        DataError: there is none: uint64 and signed integers.
    """
    ours, theirs = value_type(left.type), value_type(right.type)
    if ours == theirs:
        return ours
    if pa.types.is_integer(ours):
        if not (pa.types.is_signed_integer(ours) or pa.types.is_signed_integer(theirs)):
            return pa.uint64()
        if pa.uint64() not in (ours, theirs):
            return pa.int64()
        raise DataError(
            f"keys {left.name!r} of {ours} and {right.name!r} of {theirs} have no type in common: "
            "cast one of them"
        )
    return pa.large_string() if pa.types.is_large_string(theirs) else ours


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
    check_times(left.field(left_time), right.field(right_time))
