"""Linear models trained in place, on the rows of an embedded server's shards.

No row is copied: a batch's rows are found (and inserted), shard beside shard, and the serial pass
runs over where they lie. It knows neither workers nor their clock; what it writes counts as changed
at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from weiml.data import read_ahead
from weiml.errors import ParameterServerError
from weiml.features import Batch
from weiml.models import LinearModel, Prepared, StepResult
from weiml.ps import EmbeddedParameterServer
from weiml.train.guard import LossGuard
from weiml.train.inputs import check_inputs

__all__ = ["train_in_place"]


def train_in_place(
    model: LinearModel, server: EmbeddedParameterServer, batches: Iterable[Batch]
) -> Iterator[StepResult]:
    """Train on batches, read ahead by a thread, and yield what each saw.

    The bits depend neither on how the examples are cut into batches nor on the number of shards.
    ``model.stages`` counts read (waiting for the thread), locate and compute, and beside them, in
    the thread, prepare.

    Raises:
        DataError: a batch has other columns than the model, or values that are not finite.
        DivergedError: a loss is not finite.
    """
    (table,) = model.tables()
    stages = model.stages
    ahead = read_ahead(_prepared(model, batches))
    step = 0
    guard = LossGuard(0.0, 1)
    with ThreadPoolExecutor(thread_name_prefix="shard") as threads:
        while True:
            with stages.timed("read"):
                prepared = next(ahead, None)
            if prepared is None:
                return
            step += 1
            check_inputs(prepared.batch, f"step {step}")
            with stages.timed("locate"):
                keys = prepared.lookups[table.name].keys
                rows = _rows_to_train(server, table.name, keys, threads)
            with stages.timed("compute"):
                result = model.train_rows(prepared, rows)
            guard.check(result, model, f"step {step}", lambda: "the last batch of the stream")
            yield result


def _prepared(model: LinearModel, batches: Iterable[Batch]) -> Iterator[Prepared]:
    for batch in batches:
        with model.stages.timed("prepare"):
            prepared = model.prepare(batch)
        yield prepared


def _rows_to_train(
    server: EmbeddedParameterServer, table: str, keys: np.ndarray, threads: ThreadPoolExecutor
) -> np.ndarray:
    """Return where the rows of `keys` lie, inserted if they are new: int64 (n,) addresses."""
    partition = server.shard().partition
    if partition.num_shards == 1:
        return _rows_of_shard(server, 0, table, keys)
    split = partition.split(keys)
    rows = np.empty(len(keys), np.int64)

    def locate(shard: int) -> None:
        own = split.part(shard)
        rows[split.order[own]] = _rows_of_shard(server, shard, table, split.keys[own])

    for _ in threads.map(locate, range(partition.num_shards)):
        pass
    return rows


def _rows_of_shard(
    server: EmbeddedParameterServer, index: int, table: str, keys: np.ndarray
) -> np.ndarray:
    shard = server.shard(index)
    shard.sequence += 1
    rows = shard.tables[table].locate_or_insert(keys, shard.sequence, shard.sequence)
    if not rows.all():
        raise ParameterServerError(
            f"table {table!r} keeps {np.count_nonzero(rows == 0)} of {len(keys)} keys out; "
            f"training in place needs a table without admission and capacity"
        )
    return rows
