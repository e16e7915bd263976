"""The engine on Ray Data: a stage is one map over pieces, an exchange a group-by of bundles.

Rows do not go through Ray Data one by one: what a piece sends to a partition travels as one bundle,
Arrow IPC in a binary column. So an exchange costs Ray a few rows a piece, whatever the types of the
columns, and a partition gets its rows in the order of the pieces.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

import pyarrow as pa
import pyarrow.ipc
from typing_extensions import override

import weiml.errors
from weiml.data.examples.engine import (
    CarriedSide,
    Ending,
    Engine,
    collect,
    combined,
    finish,
    parts_of,
)
from weiml.data.examples.plan import Branch, Carried, CarryingJoin, Exchange
from weiml.data.examples.rows import RowOperation, TableFunction
from weiml.data.examples.wide import WideOperation
from weiml.data.ray_settings import ray_data_settings
from weiml.data.sources import Piece
from weiml.errors import WeimlError

__all__ = ["RayEngine"]

_BUNDLES = pa.schema(
    {
        "part": pa.int32(),  # the partition that it is for
        "side": pa.int32(),
        "piece": pa.int64(),  # where it comes from
        "payload": pa.large_binary(),
    }
)
_RESULTS = pa.schema({"piece": pa.int64(), "payload": pa.large_binary()})
_OWN_ERROR = re.compile(
    r"^weiml\.errors\.(?P<kind>\w+): (?P<text>.*?)"
    r"(?=\n\nThe above exception|\n\nDuring handling|\Z)",
    re.DOTALL | re.MULTILINE,
)
_MOST_SIDES = 8
_Make: TypeAlias = Callable[[Branch, int, Iterator[pa.Table]], pa.Table]
"""Makes of a piece, by its branch and its place there, the rows that go on."""


class RayEngine(Engine):
    """Runs on the Ray that this process is connected to."""

    @override
    def run(self, branches: Sequence[Branch], ending: Ending) -> Iterator[Any]:
        import ray

        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        with ray_data_settings(2 * cpus, bars=self.progress is not None), _own_errors():
            refs = [
                ref
                for branch in branches
                if branch.num_pieces
                for ref in _stage(branch, partial(_results, ending)).to_arrow_refs()
            ]
        # Ray Data's settings are the caller's again while it holds this iterator.
        for result in _in_order(refs):
            yield [_unpack(part) for part in result] if ending is collect else result

    @override
    def _bring(self, plan: Carried) -> RowOperation:
        import ray

        side = ray.put(self.table(plan.side).combine_chunks())
        return _HeldSide(plan.join, plan.schema, side, plan.side.schema)


class _HeldSide(RowOperation):
    """As CarriedSide, with the side in Ray's object store; made ready once a process."""

    _ready: ClassVar[dict[str, CarriedSide]] = {}

    def __init__(
        self, join: CarryingJoin, schema: pa.Schema, side: Any, side_schema: pa.Schema
    ) -> None:
        self.join = join
        self.schema = schema
        self.side = side
        self.side_schema = side_schema

    def __str__(self) -> str:
        return str(self.join)

    @override
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return self.schema

    @override
    def needed(self, wanted: frozenset[str], schema: pa.Schema) -> frozenset[str] | None:
        return self.join.needed(0, wanted, [schema, self.side_schema])

    @override
    def start(self, piece: int) -> TableFunction:
        import ray

        name = f"{self.side.hex()} {self.join!r}"
        ready = _HeldSide._ready.get(name)
        if ready is None:
            if len(_HeldSide._ready) >= _MOST_SIDES:
                _HeldSide._ready.clear()  # of plans that are over, for the most part
            ready = CarriedSide(self.join, self.schema, ray.get(self.side))
            _HeldSide._ready[name] = ready
        return ready.start(piece)


def _stage(branch: Branch, make: _Make) -> Any:
    """Return the Ray data set of what `make` gives for each piece of a branch."""
    import ray.data

    if not isinstance(branch.head, Exchange):
        rows = [
            {"place": place, "piece": pickle.dumps(piece)}
            for place, piece in enumerate(branch.head)
        ]
        pieces = ray.data.from_items(rows, override_num_blocks=len(rows))
        read = partial(_read, replace(branch, head=()), make)
        return pieces.map_batches(read, batch_format="pyarrow", batch_size=None)
    head = branch.head
    bundles = [
        _stage(below, partial(_bundle, head.operation, side, head.partitions))
        for side, branches in enumerate(head.sides)
        for below in branches
    ]
    together = bundles[0].union(*bundles[1:]) if len(bundles) > 1 else bundles[0]
    groups = together.groupby("part", num_partitions=head.partitions)
    here = replace(branch, head=replace(head, sides=()))
    return groups.map_groups(partial(_combine, here, make), batch_format="pyarrow")


def _read(branch: Branch, make: _Make, rows: pa.Table) -> pa.Table:
    """Run the pieces of one block."""
    made = []
    for row in rows.to_pylist():
        piece: Piece = pickle.loads(row["piece"])
        made.append(make(branch, row["place"], piece.read(branch.schema)))
    return pa.concat_tables(made)


def _combine(branch: Branch, make: _Make, bundles: pa.Table) -> pa.Table:
    """Run one partition."""
    head = branch.head
    assert isinstance(head, Exchange)
    ordered = bundles.sort_by([(name, "ascending") for name in ("side", "piece")])
    sides: list[list[pa.Table]] = [[] for _ in head.schemas]
    for side, payload in zip(ordered["side"].to_pylist(), ordered["payload"], strict=True):
        sides[side].append(_unpack(payload.as_buffer()))
    partition = ordered["part"][0].as_py()
    return make(branch, partition, iter([combined(head, partition, sides)]))


def _bundle(
    operation: WideOperation,
    side: int,
    partitions: int,
    branch: Branch,
    place: int,
    tables: Iterator[pa.Table],
) -> pa.Table:
    """Cut a piece into bundles."""
    rows: dict[str, list[Any]] = {name: [] for name in _BUNDLES.names}

    def send(piece: int, left: Iterator[pa.Table]) -> None:
        parts: dict[int, list[pa.Table]] = {}
        for part, table in parts_of(operation, side, piece, partitions, left):
            parts.setdefault(part, []).append(table)
        for part, tables in parts.items():
            values = (part, side, piece, _pack(pa.concat_tables(tables)))
            for name, value in zip(_BUNDLES.names, values, strict=True):
                rows[name].append(value)

    finish(branch, place, tables, send)
    return pa.table(rows, schema=_BUNDLES)


def _results(ending: Ending, branch: Branch, place: int, tables: Iterator[pa.Table]) -> pa.Table:
    """Return the one row that holds what the ending gives for a piece; none if it is None."""
    result = finish(branch, place, tables, ending)
    if result is None:
        return _RESULTS.empty_table()
    if ending is collect:
        result = [_pack(table) for table in result]
    row = {"piece": [branch.first + place], "payload": [pickle.dumps(result)]}
    return pa.table(row, schema=_RESULTS)


def _in_order(refs: Sequence[Any]) -> Iterator[Any]:
    """Yield the results in blocks anywhere in the cluster, by their pieces, one block at a time."""
    import ray

    pieces = ray.get([ray.remote(_pieces).remote(ref) for ref in refs])
    placed = sorted(
        (piece, block, row) for block, held in enumerate(pieces) for row, piece in enumerate(held)
    )
    for _, block, row in placed:
        yield pickle.loads(ray.get(refs[block])["payload"][row].as_buffer())


def _pieces(block: pa.Table) -> list[int]:
    return block["piece"].to_pylist() if block.num_rows else []


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def _unpack(payload: Any) -> pa.Table:
    return pyarrow.ipc.open_stream(payload).read_all()


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise what our code raised in a task as it was, without Ray's trace around it.

    Ray Data passes on the text of an error, but not the error.
    """
    import ray.exceptions

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        told = _OWN_ERROR.search(str(error))
        if told is None:
            raise
        kind = getattr(weiml.errors, told["kind"], WeimlError)
        raise kind(told["text"]) from None
