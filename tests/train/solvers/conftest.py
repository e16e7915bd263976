"""Small data sets on disk with their float64 matrices, and losses that are plain functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from tests.models.conftest import make_batch
from weiml.config import from_mapping
from weiml.data import BatchDataset, write_batches
from weiml.features import Batch
from weiml.ps import EmbeddedParameterServer
from weiml.train.solvers import SolverConfig, SolverResult, SolverVectors


class Problem(NamedTuple):
    """A data set, and the same as a matrix without the bias."""

    dataset: BatchDataset
    x: np.ndarray
    y: np.ndarray
    example_weights: np.ndarray

    def objective(self, result: SolverResult) -> float:
        """Return the objective in float64 at a result's weights."""
        w, config = result.weights.astype(np.float64), result.config
        margins = self.x @ w[1:] + w[0]
        loss = np.logaddexp(0, margins) - self.y * margins
        counted = w if config.penalise_bias else w[1:]
        penalty = config.l1 * np.abs(counted).sum() + config.l2 / 2 * counted @ counted
        return float(self.example_weights @ loss + penalty)


def dense_batch(x: np.ndarray, y: np.ndarray) -> Batch:
    n = len(x)
    zeros = np.zeros(n, np.uint64)
    return Batch(
        labels=y.astype(np.float32)[:, None],
        weights=np.ones(n, np.float32),
        dense=x.astype(np.float32),
        keys=np.empty(0, np.uint64),
        offsets=np.zeros(1, np.int32),
        groups=zeros,
        items=zeros,
        times=np.zeros(n, np.int64),
        slots=(),
        dense_names=tuple(f"x{i}" for i in range(x.shape[1])),
    )


def matrix_of(batch: Batch) -> np.ndarray:
    """Return dense columns, then one column a distinct key, ascending: float64."""
    keys, columns = np.unique(batch.keys, return_inverse=True)
    examples = np.repeat(np.arange(len(batch)), np.diff(batch.offsets[:: len(batch.slots)]))
    sparse = np.zeros((len(batch), len(keys)))
    values = np.ones(len(columns)) if batch.values is None else batch.values
    np.add.at(sparse, (examples, columns), values)
    return np.hstack([batch.dense.astype(np.float64), sparse])


@pytest.fixture(scope="session")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """569 examples of 30 dense columns, scaled."""
    x, y = load_breast_cancer(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    folder: Path = tmp_path_factory.mktemp("cancer") / "set"
    dataset = write_batches([dense_batch(x, y)], folder)
    return Problem(dataset, x.astype(np.float64), y.astype(np.float64), np.ones(len(y)))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """1501 weighted examples of 3 slots with values and 2 dense columns, in parts of 400."""
    batch = make_batch(1501, 3, values=True)
    folder: Path = tmp_path_factory.mktemp("mixed") / "set"
    dataset = write_batches([batch], folder, examples_per_part=400)
    weights = batch.weights.astype(np.float64)
    return Problem(dataset, matrix_of(batch), batch.labels[:, 0].astype(np.float64), weights)


def settings(**values: Any) -> SolverConfig:
    return from_mapping(SolverConfig, {"cpus_per_worker": 0.5} | values)


class FunctionLoss:
    """A function of a numpy array as a loss; the gradient is assigned as float32."""

    def __init__(
        self,
        vectors: SolverVectors,
        function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    ) -> None:
        self.points: list[np.ndarray] = []
        self._vectors = vectors
        self._function = function
        vectors.create("part")

    def evaluate(self, point: str) -> tuple[float, Sequence[str]]:
        x = self._vectors.pull(point).astype(np.float64)
        self.points.append(x)
        value, gradient = self._function(x)
        self._vectors.assign(gradient.astype(np.float32), "part")
        return value, ["part"]


@pytest.fixture
def vectors_of() -> Callable[..., SolverVectors]:
    """Make vectors that start at given weights, all of them penalised."""

    def make(start: Sequence[float] | np.ndarray, shards: int = 2) -> SolverVectors:
        weights = np.asarray(start, np.float32)
        vectors = SolverVectors(EmbeddedParameterServer(shards), len(weights))
        vectors.create("w", "scales")
        vectors.assign(weights, "w")
        vectors.assign(np.ones(len(weights)), "scales")
        return vectors

    return make
