"""A plan: what to read, and what to do with it; nothing of where it runs.

A plan is a tree. Compiled, it is a list of branches: a head that yields pieces (parts of a source,
or partitions of an exchange) and the chain of row operations that each piece goes through. Pieces
are numbered across branches; the numbers, and with them the order of the examples and all that is
drawn at random, depend on the plan alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import pyarrow as pa

from weiml.data.examples.joins import Join
from weiml.data.examples.rows import RowOperation, Select, TableFunction, fitting, told
from weiml.data.examples.timed_joins import AsOfJoin
from weiml.data.examples.wide import Repartition, WideOperation
from weiml.data.sources import FeatureSource, Piece
from weiml.errors import DataError

__all__ = [
    "Branch",
    "Bring",
    "Carried",
    "CarryingJoin",
    "Chained",
    "Exchange",
    "Exchanged",
    "Plan",
    "Read",
    "Union",
    "compile_plan",
    "has_exchange",
]

CarryingJoin = Join | AsOfJoin

_PARTITION_BYTES = 64 << 20  # of sources as they are kept, about four times as much in memory


class Plan:
    """A node of the tree; `schema` is that of the examples that come out."""

    schema: pa.Schema
    inputs: tuple[Plan, ...]

    def num_bytes(self) -> int | None:
        """Return the size of all that is read, where it is kept; None if unknown."""
        return _total(plan.num_bytes() for plan in self.inputs)


class Read(Plan):
    """The examples of a source."""

    def __init__(self, source: FeatureSource) -> None:
        self.source = source
        self.schema = source.schema()
        twice = sorted({n for n in self.schema.names if self.schema.names.count(n) > 1})
        if twice:
            raise DataError(f"columns of {source} have the same name: {', '.join(twice)}")
        self.inputs = ()

    def __str__(self) -> str:
        return f"read {self.source}"

    @cached_property
    def pieces(self) -> list[Piece]:
        """The source's pieces, listed once."""
        return self.source.pieces()

    def num_bytes(self) -> int | None:
        """Return the size of the source."""
        return _total(piece.num_bytes for piece in self.pieces)


class Chained(Plan):
    """A row operation on the examples of another plan."""

    def __init__(self, source: Plan, operation: RowOperation) -> None:
        self.operation = operation
        self.inputs = (source,)
        self.schema = operation.output_schema(source.schema)

    def __str__(self) -> str:
        return str(self.operation)


class Carried(Plan):
    """A join that takes another plan's examples along to each piece: a small right side."""

    def __init__(self, left: Plan, side: Plan, join: CarryingJoin) -> None:
        self.join = join
        self.side = side
        self.inputs = (left,)
        self.schema = join.output_schema([left.schema, side.schema])

    def __str__(self) -> str:
        return f"{self.join}, the right side carried along"

    def num_bytes(self) -> int | None:
        """Return the size of both sides."""
        return _total([super().num_bytes(), self.side.num_bytes()])


def _total(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)


class Exchanged(Plan):
    """A wide operation on one or two plans' examples."""

    def __init__(self, sides: Sequence[Plan], operation: WideOperation) -> None:
        self.operation = operation
        self.inputs = tuple(sides)
        self.schema = operation.output_schema([side.schema for side in sides])

    def __str__(self) -> str:
        return str(self.operation)


def has_exchange(plan: Plan) -> bool:
    """Whether examples are brought together somewhere on the way, sides of joins apart."""
    return isinstance(plan, Exchanged) or any(has_exchange(source) for source in plan.inputs)


class Union(Plan):
    """The examples of several plans, one after the other."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.inputs = tuple(plans)
        self.schema = plans[0].schema
        for plan in plans:
            if not plan.schema.equals(self.schema):
                raise DataError(
                    f"only examples of the same columns can be put together, got {self.schema} "
                    f"and {plan.schema}"
                )

    def __str__(self) -> str:
        return "union"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The head of a branch whose pieces are partitions."""

    operation: WideOperation
    sides: tuple[tuple[Branch, ...], ...]
    schemas: tuple[pa.Schema, ...]
    schema: pa.Schema
    partitions: int


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Pieces, the first of which has number `first`, and the chain that each goes through."""

    head: tuple[Piece, ...] | Exchange
    schema: pa.Schema
    """What the head yields."""
    operations: tuple[RowOperation, ...] = ()
    schemas: tuple[pa.Schema, ...] = ()
    """What each operation makes of it."""
    first: int = 0

    def __str__(self) -> str:
        if isinstance(self.head, Exchange):
            return str(self.head.operation)
        return f"{len(self.head)} pieces" if len(self.head) > 1 else "1 piece"

    @property
    def num_pieces(self) -> int:
        """How many pieces there are."""
        return self.head.partitions if isinstance(self.head, Exchange) else len(self.head)

    def run(self, piece: int, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield what the chain makes of the tables of one piece; empty tables are left out."""
        chain = [
            (operation, operation.start(piece), schema)
            for operation, schema in zip(self.operations, self.schemas, strict=True)
        ]
        for table in tables:
            done = _through(chain, table)
            if done.num_rows:
                yield done


def _through(
    chain: Sequence[tuple[RowOperation, TableFunction, pa.Schema]], table: pa.Table
) -> pa.Table:
    for operation, function, schema in chain:
        if table.num_rows == 0:
            return table
        with told(operation):
            table = fitting(schema, function(table), operation)
    return table


class Bring(Protocol):
    """Makes the row operation that takes a small side along."""

    def __call__(self, plan: Carried) -> RowOperation:
        """Collect the side."""


def compile_plan(plan: Plan, partitions: int | None, bring: Bring) -> tuple[Branch, ...]:
    """Return the branches of a plan, numbered, which read only the columns that are needed.

    Args:
        plan: the tree.
        partitions: of each exchange; by the size of what is read if None.
        bring: how small sides are collected.
    """
    branches = []
    at = 0
    for open_branch in _branches(plan, bring):
        branch = _closed(open_branch, partitions, bring)
        branches.append(replace(branch, first=at))
        at += branch.num_pieces
    return tuple(branches)


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A branch whose head may still be narrowed."""

    head: Read | Exchanged
    operations: tuple[RowOperation, ...] = ()
    schemas: tuple[pa.Schema, ...] = ()

    def then(self, operation: RowOperation, schema: pa.Schema) -> _Open:
        chain, schemas = (*self.operations, operation), (*self.schemas, schema)
        return replace(self, operations=chain, schemas=schemas)

    def wanted(self) -> frozenset[str] | None:
        """Return the columns of the head that the chain needs; None for all."""
        if not self.operations:
            return None
        inputs = (self.head.schema, *self.schemas)
        wanted: frozenset[str] | None = frozenset(self.schemas[-1].names)
        for operation, before in zip(reversed(self.operations), reversed(inputs[:-1]), strict=True):
            wanted = None if wanted is None else operation.needed(wanted, before)
        return wanted


def _branches(plan: Plan, bring: Bring) -> list[_Open]:
    if isinstance(plan, (Read, Exchanged)):
        return [_Open(head=plan)]
    below = [branch for source in plan.inputs for branch in _branches(source, bring)]
    if isinstance(plan, Chained):
        return [branch.then(plan.operation, plan.schema) for branch in below]
    if isinstance(plan, Carried):
        operation = bring(plan)
        return [branch.then(operation, plan.schema) for branch in below]
    return below


def _closed(branch: _Open, partitions: int | None, bring: Bring) -> Branch:
    wanted = branch.wanted()
    head: tuple[Piece, ...] | Exchange
    if isinstance(branch.head, Read):
        head, schema = tuple(branch.head.pieces), _narrowed(branch.head.schema, wanted)
    else:
        head = _exchange(branch.head, wanted, partitions, bring)
        schema = head.schema
    schemas = branch.schemas
    if not schema.equals(branch.head.schema):
        schemas = ()
        for operation in branch.operations:
            before = schemas[-1] if schemas else schema
            schemas = (*schemas, operation.start(0)(before.empty_table()).schema)
    return Branch(head=head, schema=schema, operations=branch.operations, schemas=schemas)


def _exchange(
    plan: Exchanged, wanted: frozenset[str] | None, partitions: int | None, bring: Bring
) -> Exchange:
    schemas = [source.schema for source in plan.inputs]
    sides = tuple(
        _side(source, _needed(plan.operation, side, wanted, schemas))
        for side, source in enumerate(plan.inputs)
    )
    narrowed = tuple(source.schema for source in sides)
    if isinstance(plan.operation, Repartition):
        count = plan.operation.partitions
    else:
        size = plan.num_bytes() or 0
        count = partitions or max(1, math.ceil(size / _PARTITION_BYTES))
    return Exchange(
        operation=plan.operation,
        sides=tuple(compile_plan(source, partitions, bring) for source in sides),
        schemas=narrowed,
        schema=plan.operation.output_schema(narrowed),
        partitions=count,
    )


def _needed(
    operation: WideOperation, side: int, wanted: frozenset[str] | None, schemas: list[pa.Schema]
) -> frozenset[str] | None:
    if wanted is None:
        # Nobody says what of the output is wanted; the sides may still have more than comes out.
        wanted = frozenset(operation.output_schema(schemas).names)
    return operation.needed(side, wanted, schemas)


def _side(source: Plan, needed: frozenset[str] | None) -> Plan:
    schema = _narrowed(source.schema, needed)
    if schema.equals(source.schema):
        return source
    return Chained(source, Select(names={name: name for name in schema.names}))


def _narrowed(schema: pa.Schema, wanted: frozenset[str] | None) -> pa.Schema:
    """Return the wanted part of a schema; one column of it at least, to know how many rows."""
    if wanted is None or wanted >= set(schema.names):
        return schema
    kept = [field for field in schema if field.name in wanted]
    return pa.schema(kept or [schema.field(0)])
