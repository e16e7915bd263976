"""`BatchSolver`: logistic regression to its optimum over all examples, on a parameter server."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from weiml.cluster import ray_running
from weiml.config import to_mapping
from weiml.data import BatchDataset
from weiml.errors import ConfigError, DataError
from weiml.features import FeatureEncoder
from weiml.group import Group, LocalGroup, WorkerGroup
from weiml.models import Columns, LogisticRegression
from weiml.ps import EmbeddedParameterServer, ParameterServer
from weiml.train.solvers.config import SolverConfig
from weiml.train.solvers.data_loss import DataLoss
from weiml.train.solvers.minimise import Iteration, Minimiser, StopReason
from weiml.train.solvers.result import SolverResult
from weiml.train.solvers.state import SavedState, StateFolder
from weiml.train.solvers.vectors import SolverVectors
from weiml.train.solvers.worker import DataSpec, expand_crosses

__all__ = ["BatchSolver", "SolverProgress"]

SolverProgress = Callable[[Iteration], None]

# What may change between two runs of which one goes on from the other's state: no bit hangs on it.
_FREE = ("stop", "save_every", "transport", "num_shards", "cpus_per_worker", "timeout_s")


class BatchSolver:
    """L-BFGS, or OWL-QN with an L1 penalty, over a data set. One object for one run at a time.

    Args:
        config: the loss, its penalties, and on what it runs.
        encoder: kept with the model; by default the one beside the data set, if any.
        server: an open parameter server to run on; its vectors are gone afterwards, it stays open.
            By default the run makes its own, as configured, and closes it.

    Example:
        >>> solver = BatchSolver(SolverConfig(l1=1.0, l2=0.0))  # doctest: +SKIP
        >>> result = solver.fit(BatchDataset.open("train"), progress=print)  # doctest: +SKIP
        >>> result.save("models/sparse")  # doctest: +SKIP
    """

    def __init__(
        self,
        config: SolverConfig,
        encoder: FeatureEncoder | None = None,
        *,
        server: ParameterServer | None = None,
    ) -> None:
        self.config = config
        self._encoder = encoder
        self._server = server

    def fit(
        self,
        dataset: BatchDataset,
        *,
        progress: SolverProgress | None = None,
        state_folder: str | Path | None = None,
    ) -> SolverResult:
        """Minimise the objective over all examples.

        Args:
            dataset: the examples; every worker reads its range once and keeps it mapped.
            progress: called at the start and after each iteration.
            state_folder: where the state is saved every ``config.save_every`` iterations and at
                the end. A state in it is gone on from, and then computes the same bits as a run
                that was never interrupted.

        Raises:
            DataError: there are no examples, or they do not fit the loss.
            ConfigError: the state is of another run.
            SolverError: a line search failed far from an optimum.
            ClusterError: a worker died, or Ray has no room.
            ParameterServerError: a shard failed.
        """
        if dataset.num_examples < self.config.num_workers:
            raise DataError(
                f"{dataset} has {dataset.num_examples} examples for num_workers = "
                f"{self.config.num_workers}"
            )
        with ExitStack() as stack:
            if self._server is None and self.config.transport == "ray":
                stack.enter_context(ray_running())
            server = self._server or stack.enter_context(_make_server(self.config))
            group = stack.enter_context(_make_group(self.config, server))
            return self._solve(dataset, server, group, progress, state_folder)

    def _solve(
        self,
        dataset: BatchDataset,
        server: ParameterServer,
        group: Group,
        progress: SolverProgress | None,
        state_folder: str | Path | None,
    ) -> SolverResult:
        config = self.config
        keys = _read(dataset, server, group, config)
        states = None
        if state_folder is not None:
            states = StateFolder(state_folder, _what_must_stay(config, dataset, keys))
        found = None if states is None else states.newest()
        if found is not None:
            _load(found, server)
        vectors = SolverVectors(server, len(keys))
        try:
            _create_scales(vectors, config, found)
            loss = DataLoss(group, vectors)
            standing = None if found is None else found.standing
            minimiser = Minimiser(vectors, loss, config, standing)
            told = [] if found is None else list(found.iterations)

            def after(iteration: Iteration) -> None:
                told.append(iteration)
                if states is not None and _is_due(iteration, config):
                    states.save(server, minimiser.standing, told)
                if progress is not None:
                    progress(iteration)

            reason = minimiser.run(after)
            if states is not None and not _is_due(told[-1], config):
                states.save(server, minimiser.standing, told)
            return self._result(dataset, keys, reason, told, vectors, loss)
        finally:
            vectors.drop()

    def _result(
        self,
        dataset: BatchDataset,
        keys: np.ndarray,
        reason: StopReason,
        told: list[Iteration],
        vectors: SolverVectors,
        loss: DataLoss,
    ) -> SolverResult:
        kept = None if dataset.spec is None else dataset.encoder()
        return SolverResult(
            config=self.config,
            reason=reason,
            iterations=told,
            columns=_columns(dataset),
            keys=keys,
            weights=vectors.pull("w"),
            squares=loss.gradient_squares("w"),
            encoder=self._encoder or kept,
        )


def _read(
    dataset: BatchDataset, server: ParameterServer, group: Group, config: SolverConfig
) -> np.ndarray:
    """Let the workers read their examples; return the keys of all weights, uint64 (P,)."""
    spec = DataSpec(
        dataset=BatchDataset.open(dataset.folder.resolve()),  # workers may run elsewhere
        server=server,
        loss=config.loss,
        batch_size=config.batch_size,
        crosses=expand_crosses(config.lr.crosses, config.lr.cross_groups),
    )
    model = LogisticRegression(config.lr, _columns(dataset))
    first = next(dataset.iter_batches(1))
    # The model's own come first in each example's keys: the bias, then the dense columns.
    own = next(iter(model.keys(first).values()))[: 1 + len(dataset.dense_names)]
    return np.concatenate([own, DataLoss.read(group, spec)])


def _create_scales(vectors: SolverVectors, config: SolverConfig, found: SavedState | None) -> None:
    """Say which weights the penalties count."""
    vectors.create("scales")
    if found is None:
        scales = np.ones(vectors.length, np.float32)
        scales[0] = config.penalise_bias
        vectors.assign(scales, "scales")


def _columns(dataset: BatchDataset) -> Columns:
    return Columns(slots=dataset.slots, dense_names=dataset.dense_names)


def _is_due(iteration: Iteration, config: SolverConfig) -> bool:
    return iteration.iteration % config.save_every == 0


def _load(found: SavedState, server: ParameterServer) -> None:
    tables = server.status()["tables"]
    if tables:
        raise ConfigError(
            f"{found.path} would replace all that the parameter server holds, and it has tables "
            f"{sorted(tables)}; go on from a saved state on a server of its own"
        )
    found.load_vectors(server)


def _what_must_stay(
    config: SolverConfig, dataset: BatchDataset, keys: np.ndarray
) -> dict[str, Any]:
    settings = {k: v for k, v in to_mapping(config).items() if k not in _FREE}
    return settings | {
        "examples": dataset.num_examples,
        "columns": to_mapping(_columns(dataset)),
        "keys": hashlib.sha256(keys.tobytes()).hexdigest(),
    }


def _make_server(config: SolverConfig) -> ParameterServer:
    if config.transport == "embedded":
        return EmbeddedParameterServer(config.num_shards, config.num_workers)
    from weiml.ps import RayParameterServer

    return RayParameterServer.create(
        num_shards=config.num_shards,
        num_workers=config.num_workers,
        name=f"weiml-solver-{os.getpid()}-{time.time_ns():x}",
    )


def _make_group(config: SolverConfig, server: ParameterServer) -> Group:
    if isinstance(server, EmbeddedParameterServer):
        return LocalGroup(config.num_workers)
    return WorkerGroup.create(
        config.num_workers,
        backend="none",
        cpus_per_worker=config.cpus_per_worker,
        timeout_s=config.timeout_s,
    )
