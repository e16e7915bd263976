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
from weiml.data.examples.keys import check_key, key_of, value_type
from weiml.data.examples.matching import KeyIndex
from weiml.data.examples.wide import ByKey, Carrying
from weiml.errors import ConfigError, DataError

__all__ = ["How", "Join", "added_columns", "check_keys", "check_kinds", "others_than"]

How = Literal["inner", "left", "right", "outer", "semi", "anti"]


@dataclass(frozen=True, kw_only=True)
class Join(ByKey, Carrying):
    """Pairs of examples with equal keys; the key's columns come out once, under the left names."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How = "inner"

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ConfigError(f"unknown join {self.how!r}{nearest(self.how, get_args(How))}")
        check_keys(self.left_on, self.right_on)

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
        check_kinds(left, self.left_on, right, self.right_on)
        if self.how in ("semi", "anti"):
            return left
        added = [
            right.field(name).with_nullable(True)
            for name in added_columns(left, right, self.right_on, str(self))
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
        for name in others_than(right.schema, self.right_on):
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
        columns |= {name: rest[name] for name in others_than(right.schema, self.right_on)}
        schema = pa.schema(kinds)
        return pa.concat_tables([paired.cast(schema), pa.table(columns, schema=schema)])


def check_keys(left_on: Sequence[str], right_on: Sequence[str]) -> None:
    """Raise ConfigError unless both sides have as many key columns."""
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


def others_than(schema: pa.Schema, keys: Sequence[str]) -> list[str]:
    """Return the columns that are none of `keys`."""
    return [name for name in schema.names if name not in keys]


def added_columns(
    left: pa.Schema, right: pa.Schema, dropped: Sequence[str], what: str
) -> list[str]:
    """Return what the right side adds; DataError if the left one has a column of that name."""
    names = others_than(right, dropped)
    both = [name for name in names if name in left.names]
    if both:
        raise DataError(
            f"{what}: both sides have a column {both[0]!r}; rename or drop it on one of them"
        )
    return names


def check_kinds(
    left: pa.Schema, left_on: Sequence[str], right: pa.Schema, right_on: Sequence[str]
) -> None:
    """Raise DataError unless the key columns are there, and of the same kinds on both sides."""
    ours, theirs = check_key(left, left_on), check_key(right, right_on)
    for name, other, kind, kind_of_other in zip(left_on, right_on, ours, theirs, strict=True):
        if kind != kind_of_other:
            raise DataError(
                f"keys of different types never meet: {name!r} is {left.field(name).type} on the "
                f"left, {other!r} is {right.field(other).type} on the right: cast one of them"
            )
