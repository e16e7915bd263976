"""What runs on each worker: its part of the batches through its copy of the model.

Three things go on at once: a thread reads batches and makes them ready, the rows of the next batch
are on their way from the servers, and the batch whose rows are here is trained on.

These functions run by `weiml.group.Group`, unchanged in this process and in Ray actors. They know
no driver and no validation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from weiml.data import BatchSource, read_ahead
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.group import WorkerContext
from weiml.models import (
    Columns,
    Fetch,
    Model,
    ModelConfig,
    Prepared,
    StepResult,
    build_model,
)
from weiml.ps import Client, ParameterServer
from weiml.ps.wire import WireConfig

__all__ = [
    "ChunkResult",
    "WorkerSpec",
    "check_inputs",
    "check_result",
    "dense_part",
    "finish",
    "run_steps",
    "start_epoch",
    "start_worker",
    "steps_of",
]


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to begin; travels to its process."""

    model_config: ModelConfig
    columns: Columns
    seed: int
    batch_size: int
    source: BatchSource
    """The training set."""
    server: ParameterServer
    wire: WireConfig = field(default_factory=WireConfig)
    shuffled: bool = True
    """Whether each epoch has an order of its own, or that of the source."""
    dense: tuple[np.ndarray, dict[str, np.ndarray]] | None = None
    """What `dense_part` gave, to go on from; None: as the seed says."""
    first_batch_size: int | None = None
    """See `TrainConfig`."""
    threads: int = 1
    """That the worker's network computes with."""


class ChunkResult(NamedTuple):
    """What a worker did in a few steps."""

    steps: int
    examples: int
    weight: float
    loss: float
    """Sum of weighted log-losses."""
    seconds: dict[str, float]
    """Where the time went: read (waiting for the thread that reads), pull (waiting for rows), mend,
    compute, push, tick (waiting for the servers to have it all); and beside them, in the thread
    that reads, prepare."""


@dataclass
class _Worker:
    spec: WorkerSpec
    model: Model
    client: Client
    batches: Iterator[Prepared]
    ahead: Fetch | None = None
    """The next batch, its rows asked for."""
    epoch: int = 0
    steps: int = 0


def start_worker(context: WorkerContext, spec: WorkerSpec) -> None:
    """Build the worker's model and connect it to the servers."""
    model = build_model(
        spec.model_config.name,
        spec.model_config,
        spec.columns,
        seed=spec.seed,
        rank=context.rank,
        threads=spec.threads,
    )
    if spec.dense is not None:
        model.set_dense_vector(spec.dense[0])
        model.set_dense_state(spec.dense[1])
    context.memory["worker"] = _Worker(
        spec=spec,
        model=model,
        client=spec.server.client(context.rank, wire=spec.wire),
        batches=iter(()),
    )


def start_epoch(context: WorkerContext, epoch: int) -> None:
    """Begin the worker's part of an epoch's permutation."""
    worker = _worker(context)
    worker.epoch = epoch
    worker.steps = 0
    worker.batches = read_ahead(_prepared(context, worker))
    worker.ahead = None


def run_steps(context: WorkerContext, count: int) -> Generator[np.ndarray | None, Any, ChunkResult]:
    """Take up to `count` steps; all workers have equally many. A `weiml.group.Collective`.

    Under BSP the pull for the next step waits on the servers for this worker's tick. With looser
    clocks it does not, and misses what this step pushes; see `Model.step`.
    """
    worker = _worker(context)
    stages = worker.model.stages
    patient = worker.spec.server.config.staleness == 0
    taken = ChunkResult(0, 0, 0.0, 0.0, {})
    for _ in range(count):
        fetch = worker.ahead or _fetch(worker, ahead=0)
        if fetch is None:
            break
        worker.steps += 1
        where = f"worker {context.rank}, epoch {worker.epoch + 1}, step {worker.steps}"
        check_inputs(fetch.prepared.batch, f"{worker.spec.source}, {where}")
        worker.ahead = _fetch(worker, ahead=1)
        result = yield from worker.model.step(
            worker.client, fetch, missed_by=None if patient else worker.ahead
        )
        check_result(result, worker.model, where)
        with stages.timed("tick"):
            if worker.ahead is None:  # the epoch's last step: validation sees what was held back
                worker.client.flush()
            ticket = worker.client.tick()
        # Under BSP the others must tick before this worker may read again.
        yield None
        taken = taken._replace(
            steps=taken.steps + 1,
            examples=taken.examples + result.examples,
            weight=taken.weight + result.weight,
            loss=taken.loss + result.loss,
        )
    if taken.steps:
        with stages.timed("tick"):
            worker.client.wait(ticket)
    return taken._replace(seconds=stages.take())


def dense_part(context: WorkerContext) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Return rank 0's dense vector and dense optimizer's memory; None from the others."""
    if context.rank:
        return None
    model = _worker(context).model
    return model.dense_vector(), model.dense_state()


def finish(context: WorkerContext) -> None:
    """Leave the servers' clock."""
    _worker(context).client.finish()


def _worker(context: WorkerContext) -> _Worker:
    worker = context.memory["worker"]
    assert isinstance(worker, _Worker)
    return worker


def _prepared(context: WorkerContext, worker: _Worker) -> Iterator[Prepared]:
    """Read the worker's part of an epoch and make it ready."""
    spec = worker.spec
    batches = spec.source.iter_batches(
        spec.batch_size,
        seed=spec.seed if spec.shuffled else None,
        epoch=worker.epoch,
        worker=context.rank,
        num_workers=context.num_workers,
    )
    if worker.epoch == 0:
        batches = _growing(batches, spec.first_batch_size)
    for batch in batches:
        with worker.model.stages.timed("prepare"):
            prepared = worker.model.prepare(batch)
        yield prepared


def steps_of(examples: int, batch_size: int, first_batch_size: int | None, epoch: int) -> int:
    """Return the steps in which each worker takes its `examples` of an epoch."""
    steps = -(-examples // batch_size)
    if epoch == 0 and examples:
        steps += len(_growing_sizes(min(examples, batch_size), first_batch_size)) - 1
    return steps


def _growing(batches: Iterator[Batch], first: int | None) -> Iterator[Batch]:
    """Cut the first batch into growing ones."""
    for batch in itertools.islice(batches, 1):
        start = 0
        for size in _growing_sizes(len(batch), first):
            yield batch.slice(start, start + size)
            start += size
    yield from batches


def _growing_sizes(whole: int, first: int | None) -> list[int]:
    """Return ``first, first, 2 first, 4 first`` and so on, together `whole`."""
    sizes = []
    done = 0
    while first is not None and max(done, first) < whole - done:
        sizes.append(max(done, first))
        done += sizes[-1]
    return [*sizes, whole - done]


def _fetch(worker: _Worker, *, ahead: int) -> Fetch | None:
    """Ask for the rows of the next batch, if there is one."""
    with worker.model.stages.timed("read"):
        prepared = next(worker.batches, None)
    if prepared is None:
        return None
    with worker.model.stages.timed("push"):
        return worker.model.fetch(worker.client, prepared, ahead=ahead)


def check_inputs(batch: Batch, where: str) -> None:
    """Raise DataError if the batch has dense numbers or values of keys that are not finite."""
    if batch.values is not None and not np.isfinite(batch.values).all():
        at = int(np.argmin(np.isfinite(batch.values)))
        slot = batch.slots[
            (int(np.searchsorted(batch.offsets, at, "right")) - 1) % len(batch.slots)
        ]
        raise DataError(
            f"{where}: slot {slot!r} holds values that are not finite; fix them where the features "
            "are made"
        )
    if np.isfinite(batch.dense).all():
        return
    for name, column in zip(batch.dense_names, batch.dense.T, strict=True):
        if not np.isfinite(column).all():
            raise DataError(
                f"{where}: dense column {name!r} holds values that are not finite; fix them where "
                f"the features are made"
            )


def check_result(result: StepResult, model: Model, where: str) -> None:
    """Raise ConfigError if the loss of a step is not finite."""
    if not math.isfinite(result.loss):
        raise ConfigError(
            f"training diverged at {where}: the loss is {result.loss}; lower the learning rates "
            f"of model {model.name!r}: {model.config}"
        )
