"""What an engine does: run each piece of a plan through its chain and hand it to an ending.

`LocalEngine` runs in this process, with threads; weiml.data.examples.ray_engine on a cluster. Both
give the same examples in the same order.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from typing_extensions import override

from weiml.data.datasets import ProgressCallback
from weiml.data.examples.plan import (
    Branch,
    Carried,
    CarryingJoin,
    Exchange,
    Plan,
    compile_plan,
)
from weiml.data.examples.rows import RowOperation, TableFunction, told
from weiml.data.examples.wide import WideOperation

__all__ = ["CarriedSide", "Ending", "Engine", "LocalEngine", "parts_of"]

Ending: TypeAlias = Callable[[int, Iterator[pa.Table]], Any]
"""Takes a piece's number and its tables, and returns what the caller wants of it. Picklable."""


class CarriedSide(RowOperation):
    """A join whose right side is at hand wherever the left side's pieces are."""

    def __init__(self, join: CarryingJoin, schema: pa.Schema, side: pa.Table) -> None:
        self.join = join
        self.schema = schema
        self.side = side

    def __getstate__(self) -> dict[str, Any]:
        return {"join": self.join, "schema": self.schema, "side": self.side}

    @cached_property
    def _carried(self) -> TableFunction:
        return self.join.carry(self.side)  # made where it is used: what it makes is not pickled

    def __str__(self) -> str:
        return str(self.join)

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return self.schema

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        return self.join.needed(0, wanted, [schema, self.side.schema])

    @override
    def start(self, piece: int) -> TableFunction:
        return self._carried


class Engine(ABC):
    """Runs plans."""

    def __init__(
        self, partitions: int | None = None, progress: ProgressCallback | None = None
    ) -> None:
        self.partitions = partitions
        self.progress = progress

    def compile(self, plan: Plan) -> tuple[Branch, ...]:
        """Return the plan's branches; small sides are collected on the way."""
        return compile_plan(plan, self.partitions, self._bring)

    @abstractmethod
    def run(self, branches: Sequence[Branch], ending: Ending) -> Iterator[Any]:
        """Yield what the ending returns for each piece that has examples, in their order."""

    def tables(self, plan: Plan) -> Iterator[pa.Table]:
        """Yield the plan's examples in their order."""
        for tables in self.run(self.compile(plan), collect):
            yield from tables

    def table(self, plan: Plan) -> pa.Table:
        """Return all of the plan's examples."""
        tables = list(self.tables(plan))
        return pa.concat_tables(tables) if tables else plan.schema.empty_table()

    def _bring(self, plan: Carried) -> RowOperation:
        return CarriedSide(plan.join, plan.schema, self.table(plan.side).combine_chunks())


def collect(piece: int, tables: Iterator[pa.Table]) -> list[pa.Table]:
    """Return the tables: the ending of those who want the examples themselves."""
    return list(tables)


def parts_of(
    operation: WideOperation, side: int, piece: int, partitions: int, tables: Iterator[pa.Table]
) -> Iterator[tuple[int, pa.Table]]:
    """Yield (partition, rows) of a piece's tables, in their order within each partition."""
    assign = operation.assign(side, piece, partitions)
    for table in _reduced(operation, side, tables):
        if partitions == 1:
            assign(table)  # draws at random go on alike for any number of partitions
            yield 0, table
            continue
        places = assign(table)
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=partitions))
        ordered = table.take(pa.array(order))
        for partition, end in enumerate(ends):
            start = ends[partition - 1] if partition else 0
            if end > start:
                yield partition, ordered.slice(start, end - start)


def _reduced(operation: WideOperation, side: int, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    with told(operation):
        yield from operation.reduce_early(side, tables)


class LocalEngine(Engine):
    """Runs in this process: pieces by threads, some ahead of whoever takes the results."""

    def stream(self, plan: Plan) -> Iterator[pa.Table]:
        """Yield the plan's examples piece by piece, each table as soon as it is read."""
        for branch in self.compile(plan):
            for place, tables in self._heads(branch):
                yield from branch.run(branch.first + place, tables())

    @override
    def tables(self, plan: Plan) -> Iterator[pa.Table]:
        branches = self.compile(plan)
        if sum(branch.num_pieces for branch in branches) <= 1:
            return self.stream(plan)
        return super().tables(plan)

    @override
    def run(self, branches: Sequence[Branch], ending: Ending) -> Iterator[Any]:
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers, thread_name_prefix="examples") as pool:
            running: deque[Future[Any]] = deque()
            total = sum(branch.num_pieces for branch in branches)
            try:
                for done, task in enumerate(self._tasks(branches, ending)):
                    running.append(pool.submit(task))
                    if len(running) > workers:
                        yield from _kept(running.popleft())
                        self._tell(branches, done - workers + 1, total)
                while running:
                    yield from _kept(running.popleft())
                    self._tell(branches, total - len(running), total)
            finally:
                for waiting in running:
                    waiting.cancel()

    def _tell(self, branches: Sequence[Branch], done: int, total: int) -> None:
        if self.progress is not None:
            heads = {str(branch) for branch in branches}
            self.progress(" and ".join(sorted(heads)), float(done), float(total))

    def _tasks(self, branches: Sequence[Branch], ending: Ending) -> Iterator[Callable[[], Any]]:
        for branch in branches:
            for place, tables in self._heads(branch):
                yield _Task(branch, place, tables, ending)

    def _heads(self, branch: Branch) -> Iterator[tuple[int, Callable[[], Iterator[pa.Table]]]]:
        """Yield, for each piece, its place in the branch and what reads it."""
        if not isinstance(branch.head, Exchange):
            for place, piece in enumerate(branch.head):
                yield place, _Reader(piece.read, branch.schema)
            return
        head = branch.head
        sides = [self._exchanged(head, side) for side in range(len(head.sides))]
        for partition in range(head.partitions):
            if any(partition in side for side in sides):
                given = [side.pop(partition, []) for side in sides]
                yield partition, _Combiner(head, partition, given)

    def _exchanged(self, head: Exchange, side: int) -> dict[int, list[pa.Table]]:
        """Return the rows of one side by partition, in the order of the pieces."""

        def ending(piece: int, tables: Iterator[pa.Table]) -> list[tuple[int, pa.Table]]:
            return list(parts_of(head.operation, side, piece, head.partitions, tables))

        found: dict[int, list[pa.Table]] = {}
        for parts in self.run(head.sides[side], ending):
            for partition, rows in parts:
                found.setdefault(partition, []).append(rows)
        return found


class _Reader:
    def __init__(self, read: Callable[[pa.Schema], Iterator[pa.Table]], schema: pa.Schema) -> None:
        self.read, self.schema = read, schema

    def __call__(self) -> Iterator[pa.Table]:
        yield from self.read(self.schema)


class _Combiner:
    def __init__(self, head: Exchange, partition: int, sides: list[list[pa.Table]]) -> None:
        self.head, self.partition, self.sides = head, partition, sides

    def __call__(self) -> Iterator[pa.Table]:
        yield combined(self.head, self.partition, self.sides)


def combined(head: Exchange, partition: int, sides: Sequence[Sequence[pa.Table]]) -> pa.Table:
    """Return what an exchange's kernel makes of the rows of one partition."""
    tables = [
        pa.concat_tables(rows).combine_chunks() if rows else schema.empty_table()
        for rows, schema in zip(sides, head.schemas, strict=True)
    ]
    with told(head.operation):
        return head.operation.combine(tables, partition)


class _Task:
    def __init__(
        self,
        branch: Branch,
        place: int,
        tables: Callable[[], Iterator[pa.Table]],
        ending: Ending,
    ) -> None:
        self.branch, self.place, self.tables, self.ending = branch, place, tables, ending

    def __call__(self) -> Any:
        return finish(self.branch, self.place, self.tables(), self.ending)


def finish(branch: Branch, place: int, tables: Iterator[pa.Table], ending: Ending) -> Any:
    """Run one piece through its chain and its ending; None if no example is left of it."""
    piece = branch.first + place
    left = branch.run(piece, tables)
    first = next(left, None)
    return None if first is None else ending(piece, _again(first, left))


def _again(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest


def _kept(future: Future[Any]) -> Iterator[Any]:
    result = future.result()
    if result is not None:
        yield result
