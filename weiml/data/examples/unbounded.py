"""Plans for streams: the row operations of a sentence as one function of micro-batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from typing_extensions import override

from weiml.data.examples.engine import LocalEngine
from weiml.data.examples.plan import Branch, Carried, Chained, Plan, Read
from weiml.data.examples.rows import Sample, TableFunction, fitting
from weiml.data.sources import FeatureSource, Piece
from weiml.errors import DataError

__all__ = ["UnboundedSource", "function_of"]


class UnboundedSource(FeatureSource):
    """Events that are still to come, of a known schema; only `function_of` can use it."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def __str__(self) -> str:
        return "a stream"

    @override
    def schema(self) -> pa.Schema:
        return self._schema

    @override
    def pieces(self) -> list[Piece]:
        return [_NoPiece()]


class _NoPiece(Piece):
    num_bytes = 0

    @override
    def read(self, schema: pa.Schema) -> Iterator[pa.Table]:
        raise DataError(
            "a stream has no end, so nothing can be collected of it: give the plan's function() to "
            "weiml.data.streams.run_stream"
        )


def function_of(plan: Plan) -> TableFunction:
    """Return what a plan over one source does to its rows; sides of joins are collected now.

    The function is thread-safe and picklable, and depends on each row alone, as streams need that
    read some events again after a restart.

    Raises:
        DataError: the plan brings examples together, or draws them by their place.
    """
    _check(plan)
    (branch,) = LocalEngine().compile(plan)
    return _Function(branch)


class _Function:
    def __init__(self, branch: Branch) -> None:
        self.branch = branch

    def __call__(self, table: pa.Table) -> pa.Table:
        given = fitting(self.branch.schema, table, "the rows that a plan's function is called with")
        done = list(self.branch.run(0, iter([given])))
        if done:
            return done[0]
        last = self.branch.schemas[-1] if self.branch.schemas else self.branch.schema
        return last.empty_table()


def _check(plan: Plan) -> None:
    while not isinstance(plan, Read):
        if not isinstance(plan, (Chained, Carried)):
            raise DataError(
                f"{plan!s}: brings examples together, which takes state on a stream: use the "
                "operators of weiml.data.streams, such as Windows and LabelJoin"
            )
        if isinstance(plan, Chained) and isinstance(plan.operation, Sample):
            raise DataError(
                f"{plan!s}: a stream reads some events again after a restart, in other batches: "
                "sample by an id, sample(share, by='event_id')"
            )
        (plan,) = plan.inputs
