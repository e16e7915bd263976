"""What runs on each worker: its part of the batches through its copy of the model.

These functions run by `weiml.group.Group`, unchanged in this process and in Ray actors. They know
no driver and no validation.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from weiml.data import BatchDataset
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.group import WorkerContext
from weiml.models import Columns, Model, StepResult, build_model
from weiml.ps import Client, ParameterServer

__all__ = [
    "ChunkResult",
    "WorkerSpec",
    "dense_part",
    "finish",
    "run_steps",
    "start_epoch",
    "start_worker",
]


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker needs to begin; travels to its process."""

    model: str
    model_config: Any
    columns: Columns
    seed: int
    batch_size: int
    dataset: str
    """Folder of the training set."""
    server: ParameterServer


class ChunkResult(NamedTuple):
    """What a worker did in a few steps."""

    steps: int
    examples: int
    weight: float
    loss: float
    """Sum of weighted log-losses."""


@dataclass
class _Worker:
    spec: WorkerSpec
    model: Model
    client: Client
    dataset: BatchDataset
    batches: Iterator[Batch]
    epoch: int = 0
    steps: int = 0


def start_worker(context: WorkerContext, spec: WorkerSpec) -> None:
    """Build the worker's model and connect it to the servers."""
    model = build_model(
        spec.model, spec.model_config, spec.columns, seed=spec.seed, rank=context.rank
    )
    context.memory["worker"] = _Worker(
        spec=spec,
        model=model,
        client=spec.server.client(context.rank),
        dataset=BatchDataset.open(spec.dataset),
        batches=iter(()),
    )


def start_epoch(context: WorkerContext, epoch: int) -> None:
    """Begin the worker's part of an epoch's permutation."""
    worker = _worker(context)
    worker.epoch = epoch
    worker.steps = 0
    worker.batches = worker.dataset.iter_batches(
        worker.spec.batch_size,
        seed=worker.spec.seed,
        epoch=epoch,
        worker=context.rank,
        num_workers=context.num_workers,
    )


def run_steps(context: WorkerContext, count: int) -> Generator[np.ndarray | None, Any, ChunkResult]:
    """Take up to `count` steps; all workers have equally many. A `weiml.group.Collective`."""
    worker = _worker(context)
    taken = ChunkResult(0, 0, 0.0, 0.0)
    for _ in range(count):
        batch = next(worker.batches, None)
        if batch is None:
            break
        worker.steps += 1
        where = f"worker {context.rank}, epoch {worker.epoch + 1}, step {worker.steps}"
        _check_inputs(worker, batch, where)
        result = yield from worker.model.step(worker.client, batch)
        _check_result(worker, result, where)
        ticket = worker.client.tick()
        # Under BSP the others must tick before this worker may read again.
        yield None
        taken = ChunkResult(
            taken.steps + 1,
            taken.examples + result.examples,
            taken.weight + result.weight,
            taken.loss + result.loss,
        )
    if taken.steps:
        worker.client.wait(ticket)
    return taken


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


def _check_inputs(worker: _Worker, batch: Batch, where: str) -> None:
    if np.isfinite(batch.dense).all():
        return
    for name, column in zip(batch.dense_names, batch.dense.T, strict=True):
        if not np.isfinite(column).all():
            raise DataError(
                f"{where}: dense column {name!r} of {worker.dataset.folder} holds values that are "
                "not finite; fix them where the features are made"
            )


def _check_result(worker: _Worker, result: StepResult, where: str) -> None:
    if not math.isfinite(result.loss):
        raise ConfigError(
            f"training diverged at {where}: the loss is {result.loss}; lower the learning rates "
            f"of model {worker.spec.model!r}: {worker.spec.model_config}"
        )
