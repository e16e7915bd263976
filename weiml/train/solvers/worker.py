"""What runs on each worker: its range of the examples, their loss and gradient at a vector.

The functions run by `weiml.group.Group`, in this process and in Ray actors alike. A worker reads
its range once, to number the keys; afterwards it keeps where each key's weight stands, 4 bytes a
key, beside the memory-mapped examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weiml.data import BatchDataset
from weiml.errors import DataError
from weiml.features import Batch, Cross, CrossGroups, with_crosses
from weiml.group import WorkerContext
from weiml.ps import Client, KeyIndex, ParameterServer
from weiml.train.inputs import check_inputs
from weiml.train.solvers.config import Loss
from weiml.train.solvers.kernels import LOGISTIC, SQUARED_HINGE, loss_pass, square_pass

__all__ = ["DataSpec", "evaluate", "gradient_squares", "number_keys", "part_names", "read_keys"]

_KINDS: dict[Loss, int] = {"logistic": LOGISTIC, "squared_hinge": SQUARED_HINGE}


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a worker needs to begin; travels to its process."""

    dataset: BatchDataset
    server: ParameterServer
    loss: Loss
    batch_size: int
    crosses: tuple[Cross, ...]
    """Products of slots, taken when the examples are read."""


@dataclass(eq=False)
class _Piece:
    """A few examples as the compiled passes take them, but for the places."""

    keys: np.ndarray
    """int32 (nnz,): the number of each key, first this worker's, then where its weight stands."""
    values: np.ndarray | None
    starts: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclass(eq=False)
class _Worker:
    spec: DataSpec
    client: Client
    pieces: list[_Piece] = field(default_factory=list)
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))


def part_names(rank: int) -> tuple[str, str]:
    """Return the vectors of one worker's gradient: its float32 numbers, and what they leave out.

    Two float32 hold 48 bits of a float64: where the workers' gradients cancel each other, as they
    do at an optimum, their sum is still exact to float32.
    """
    return f"part{rank}", f"rest{rank}"


def read_keys(context: WorkerContext, spec: DataSpec) -> np.ndarray:
    """Read and check the worker's examples; return their distinct keys uint64 (k,).

    Raises:
        DataError: labels, weights, dense numbers or values do not fit the loss.
    """
    worker = _Worker(spec, spec.server.client())
    context.memory["solver"] = worker
    index = KeyIndex()
    for batch in _examples(context, spec):
        _check(batch, spec, f"{spec.dataset}, worker {context.rank}")
        crossed = with_crosses(batch, spec.crosses)
        worker.pieces.append(
            _Piece(
                keys=index.find_or_insert(crossed.keys).astype(np.int32),
                values=crossed.values,
                starts=crossed.offsets[:: max(len(crossed.slots), 1)].astype(np.int64)
                if crossed.slots
                else np.zeros(len(crossed) + 1, np.int64),
                dense=crossed.dense,
                labels=np.ascontiguousarray(crossed.labels[:, 0]),
                weights=crossed.weights,
            )
        )
    worker.keys = index.keys.copy()
    return worker.keys


def number_keys(context: WorkerContext, keys: np.ndarray) -> None:
    """Take the weights' order: the bias, the dense columns, then `keys` uint64 (K,), ascending."""
    worker = _worker(context)
    first = 1 + len(worker.spec.dataset.dense_names)
    places = (first + np.searchsorted(keys, worker.keys)).astype(np.int32)
    for piece in worker.pieces:
        piece.keys = places[piece.keys]
    worker.keys = np.empty(0, np.uint64)


def evaluate(context: WorkerContext, point: str, parts: tuple[tuple[str, str], ...]) -> float:
    """Return the loss of the worker's examples at the vector `point`, float64.

    Its gradient is written to the two vectors ``parts[rank]``; see `part_names`.
    """
    worker = _worker(context)
    weights = _pull(worker, point)
    gradient = np.zeros(weights.size)
    losses = _each(worker, loss_pass, weights, gradient)
    high = gradient.astype(np.float32)
    low = (gradient - high).astype(np.float32)
    for name, values in zip(parts[context.rank], (high, low), strict=True):
        worker.client.call("assign", values, name).wait()
    return math.fsum(losses)


def gradient_squares(context: WorkerContext, point: str) -> np.ndarray:
    """Return ``Σ g²`` over the worker's examples, each weight's: float64 (P,)."""
    worker = _worker(context)
    weights = _pull(worker, point)
    squares = np.zeros(weights.size)
    _each(worker, square_pass, weights, squares)
    return squares


def _worker(context: WorkerContext) -> _Worker:
    worker = context.memory["solver"]
    assert isinstance(worker, _Worker)
    return worker


def _pull(worker: _Worker, point: str) -> np.ndarray:
    weights = worker.client.pull_vector(point).wait()
    return np.asarray(weights, np.float64)


def _each(
    worker: _Worker, compiled: Callable[..., Any], weights: np.ndarray, out: np.ndarray
) -> list[Any]:
    kind = _KINDS[worker.spec.loss]
    return [
        compiled(kind, weights, p.keys, p.values, p.starts, p.dense, p.labels, p.weights, out)
        for p in worker.pieces
    ]


def _examples(context: WorkerContext, spec: DataSpec) -> Iterator[Batch]:
    """Yield the worker's range, and one of the examples that equal ranges leave over."""
    dataset, workers = spec.dataset, context.num_workers
    yield from dataset.iter_batches(spec.batch_size, worker=context.rank, num_workers=workers)
    total = dataset.num_examples
    left = total - total // workers * workers
    if context.rank < left:
        yield from dataset.iter_batches(1, worker=total - left + context.rank, num_workers=total)


def _check(batch: Batch, spec: DataSpec, where: str) -> None:
    check_inputs(batch, where)
    if not (np.isfinite(batch.weights).all() and (batch.weights >= 0).all()):
        raise DataError(f"{where}: weights of examples must be finite and not negative")
    labels = batch.labels[:, 0]
    wrong = ~((labels >= 0) & (labels <= 1))
    if spec.loss == "squared_hinge":
        wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        allowed = "0 or 1" if spec.loss == "squared_hinge" else "in [0, 1]"
        raise DataError(
            f"{where}: labels must be {allowed} for loss = {spec.loss!r}, got {labels[wrong][0]}"
        )


def expand_crosses(
    crosses: tuple[Cross, ...], groups: tuple[CrossGroups, ...]
) -> tuple[Cross, ...]:
    """Return all products that a logistic regression's configuration names."""
    return (*crosses, *(cross for group in groups for cross in group.crosses))
