"""The training loop: epochs of steps on a group of workers, validation, the best epoch kept.

One loop for both transports: embedded, workers take turns in this process; on Ray they are actors.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from weiml.cluster import ray_running
from weiml.config import to_mapping
from weiml.data import BatchDataset
from weiml.errors import ConfigError, DataError
from weiml.features import FeatureEncoder
from weiml.group import Group, LocalGroup, WorkerGroup
from weiml.models import (
    Columns,
    Model,
    ModelFolder,
    Predictor,
    build_model,
    model_class,
    save_model,
)
from weiml.ps import Cut, EmbeddedParameterServer, ParameterServer
from weiml.train import worker as work
from weiml.train.config import TrainConfig
from weiml.train.evaluate import evaluate_model

__all__ = [
    "Progress",
    "ProgressCallback",
    "TrainResult",
    "Trainer",
    "check_new_folder",
    "make_group",
    "make_model",
    "make_server",
]


class Progress(NamedTuple):
    """How far a run is, every `TrainConfig.progress_steps` steps."""

    epoch: int
    """From 1."""
    epochs: int
    step: int
    """Within the epoch, of each worker."""
    steps: int
    examples_per_second: float
    """Of all workers, over the last steps."""
    loss: float
    """Mean log-loss over the epoch so far."""


ProgressCallback = Callable[[Progress], None]


@dataclass(kw_only=True)
class TrainResult:
    """A trained model. Its files are temporary until `save`."""

    history: list[dict[str, Any]]
    """One entry an epoch: epoch, examples, seconds, examples_per_second, train_loss and, with a
    validation set, validation_auc, validation_log_loss, … and best (whether the best so far)."""
    curve: list[dict[str, Any]]
    """One entry a progress report: epoch, step, examples, loss (of those steps only)."""
    best_epoch: int
    """The epoch that was kept, from 1."""
    version: str
    config: TrainConfig
    _files: Any = field(repr=False)

    @property
    def folder(self) -> Path:
        """The model's folder; gone when the result is."""
        return Path(self._files.name) / "best"

    def predictor(self) -> Predictor:
        """Load the model for scoring."""
        return Predictor.load(self.folder)

    def save(self, folder: str | Path) -> ModelFolder:
        """Copy the model to a new folder, whole or not at all.

        Raises:
            DataError: the folder is not empty.
        """
        target = Path(folder)
        check_new_folder(target)
        aside = target.with_name(f".{target.name}.{os.getpid()}.writing")
        try:
            shutil.copytree(self.folder, aside)
            os.rename(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return ModelFolder.open(target)


def check_new_folder(folder: Path) -> None:
    """Raise DataError if a model cannot be saved to `folder`, because something is in it."""
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty: models are saved to a new folder")


class Trainer:
    """Trains one model on a parameter server. Use one object for one run at a time.

    Args:
        config: the run.
        encoder: saved with the model; by default the one kept beside the training set, if any.
        server: a parameter server to train on, empty or holding this model's tables; it stays
            open. By default the run makes its own, as configured, and closes it.

    Example:
        >>> trainer = Trainer(TrainConfig(model="lr"))  # doctest: +SKIP
        >>> result = trainer.fit(train, validation, progress=print)  # doctest: +SKIP
        >>> result.save("models/lr")  # doctest: +SKIP
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: FeatureEncoder | None = None,
        *,
        server: ParameterServer | None = None,
    ) -> None:
        self.config = config
        self._encoder = encoder
        self._server = server
        if server is not None and server.config.num_workers != config.num_workers:
            raise ConfigError(
                f"the parameter server has num_workers = {server.config.num_workers} in its clock, "
                f"the training {config.num_workers}; make them equal"
            )

    def fit(
        self,
        train: BatchDataset,
        validation: BatchDataset | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> TrainResult:
        """Train, validate after each epoch, and keep the best epoch (the last without validation).

        With transport "ray" it uses the Ray it finds (see `weiml.cluster.ensure_ray`), else a local
        one for as long as it trains. However it ends, workers and a server of its own are gone
        afterwards. A server that was
        passed in holds the best epoch's rows.

        Raises:
            DataError: a set is empty, their columns differ, or values are not finite.
            ConfigError: the configuration does not fit, or training diverged.
            ClusterError: Ray is not there, has no room, or a worker died.
            ParameterServerError: a shard failed.
        """
        _check_sets(train, validation, self.config)
        with ExitStack() as stack:
            files = tempfile.TemporaryDirectory(prefix="weiml-train-")
            if self._server is None and self.config.transport == "ray":
                stack.enter_context(ray_running())
            server = self._server or stack.enter_context(make_server(self.config))
            embedded = isinstance(server, EmbeddedParameterServer)
            group = stack.enter_context(make_group(self.config, embedded=embedded))
            run = _Run(self, server, group, train, validation, Path(files.name), progress)
            run.start()
            for epoch in range(self.config.epochs):
                if not run.epoch(epoch):
                    break
            run.finish()
        best = ModelFolder.open(run.folder / "best")
        return TrainResult(
            history=run.history,
            curve=run.curve,
            best_epoch=run.best_epoch,
            version=best.version,
            config=self.config,
            _files=files,
        )


class _Run:
    """The state of one `Trainer.fit`."""

    def __init__(
        self,
        trainer: Trainer,
        server: ParameterServer,
        group: Group,
        train: BatchDataset,
        validation: BatchDataset | None,
        folder: Path,
        progress: ProgressCallback | None,
    ) -> None:
        self.config = trainer.config
        self.encoder = trainer._encoder or _kept_encoder(train)
        self.server = server
        self.group = group
        self.train = train
        self.validation = validation
        self.folder = folder
        self.progress = progress
        self.history: list[dict[str, Any]] = []
        self.curve: list[dict[str, Any]] = []
        self.best_epoch = 0
        self._best_value: float | None = None
        self._columns = Columns(slots=train.slots, dense_names=train.dense_names)
        self._model = make_model(self.config, self._columns)
        self._share = train.num_examples // self.config.num_workers
        self._steps = 0  # in the epochs before

    def start(self) -> None:
        """Create the tables and start the workers."""
        for table in self._model.tables():
            self.server.create_table(table)
        spec = work.WorkerSpec(
            model_config=self.config.model_config,
            columns=self._columns,
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            first_batch_size=self.config.first_batch_size,
            source=BatchDataset.open(self.train.folder.resolve()),  # workers may run elsewhere
            server=self.server,
            wire=self.config.wire,
            threads=self.config.threads_of_worker,
        )
        self.group.execute(work.start_worker, spec)

    def epoch(self, epoch: int) -> bool:
        """Run one epoch and validate it; False when training should stop."""
        entry = self._train_epoch(epoch)
        predictor = self._predictor()
        better = True
        if self.validation is not None:
            metrics, _ = evaluate_model(predictor, self.validation)
            entry |= {f"validation_{name}": value for name, value in metrics.items()}
            better = self._is_better(metrics[self.config.early_stopping_metric])
        entry["best"] = better
        self.history.append(entry)
        if better:
            self._keep(epoch)
        patience = self.config.early_stopping_patience
        return not patience or epoch + 1 - self.best_epoch < patience

    def finish(self) -> None:
        """Let the workers leave, and give a server that stays open the best epoch's rows."""
        self.group.execute(work.finish)
        if self.best_epoch < len(self.history):
            self.server.load(str(self._best.server_state))

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        self.group.execute(work.start_epoch, epoch)
        examples, weight, loss = 0, 0.0, 0.0
        config = self.config
        steps = work.steps_of(self._share, config.batch_size, config.first_batch_size, epoch)
        start = time.perf_counter()
        for step in range(0, steps, config.progress_steps):
            begun = time.perf_counter()
            count = min(config.progress_steps, steps - step)
            chunks = self.group.run(work.run_steps, count)
            chunk_examples = sum(chunk.examples for chunk in chunks)
            chunk_weight = sum(chunk.weight for chunk in chunks)
            chunk_loss = sum(chunk.loss for chunk in chunks)
            examples += chunk_examples
            weight += chunk_weight
            loss += chunk_loss
            self.curve.append(
                {
                    "epoch": epoch + 1,
                    "step": self._steps + step + count,
                    "examples": epoch * self.train.num_examples + examples,
                    "loss": _ratio(chunk_loss, chunk_weight),
                }
            )
            if self.progress is not None:
                self.progress(
                    Progress(
                        epoch + 1,
                        self.config.epochs,
                        step + count,
                        steps,
                        chunk_examples / (time.perf_counter() - begun),
                        _ratio(loss, weight),
                    )
                )
        seconds = time.perf_counter() - start
        self._steps += steps
        return {
            "epoch": epoch + 1,
            "examples": examples,
            "seconds": seconds,
            "examples_per_second": examples / seconds,
            "train_loss": _ratio(loss, weight),
        }

    def _predictor(self) -> Predictor:
        """Return a predictor of the applied rows and the workers' dense part."""
        part = self.group.execute(work.dense_part)[0]
        self._model.set_dense_vector(part[0])
        self._model.set_dense_state(part[1])
        self._delta = self.server.client().delta(Cut.zero())
        return Predictor(self._model, self._delta.tables)

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            raise DataError(
                f"the validation set has no {self.config.early_stopping_metric} (one class only, "
                "or no weight), so no epoch is better than another; validate on other examples, or "
                "set early_stopping_metric"
            )
        sign = -1.0 if self.config.early_stopping_metric == "log_loss" else 1.0
        if self._best_value is not None and not sign * value > sign * self._best_value:
            return False
        self._best_value = value
        return True

    def _keep(self, epoch: int) -> None:
        """Save the model as it is as the best one."""
        shutil.rmtree(self.folder / "best", ignore_errors=True)
        self._best = save_model(
            self.folder / "best",
            self._model,
            self.server,
            encoder=self.encoder,
            delta=self._delta,
            about={"config": to_mapping(self.config), "epoch": epoch + 1},
        )
        self.best_epoch = epoch + 1


def make_model(config: TrainConfig, columns: Columns) -> Model:
    """Make the driver's copy of the model that a configuration asks for."""
    return build_model(
        config.model_config.name,
        config.model_config,
        columns,
        seed=config.seed,
        threads=config.threads_of_worker,
    )


def make_server(config: TrainConfig, *, name: str | None = None) -> ParameterServer:
    """Make the parameter server that a configuration asks for; the caller closes it.

    Args:
        config: transport, shards, workers and staleness.
        name: of the group on Ray; by default unique to this process and moment.
    """
    if config.transport == "embedded":
        return EmbeddedParameterServer(
            config.num_shards, config.num_workers, config.staleness_bound
        )
    from weiml.ps import RayParameterServer

    return RayParameterServer.create(
        num_shards=config.num_shards,
        num_workers=config.num_workers,
        staleness=config.staleness_bound,
        name=name or f"weiml-train-{os.getpid()}-{time.time_ns():x}",
    )


def make_group(config: TrainConfig, *, embedded: bool) -> Group:
    """Make the workers: in this process beside an embedded server, else as Ray actors."""
    if embedded:
        return LocalGroup(config.num_workers)
    return WorkerGroup.create(
        config.num_workers,
        backend="gloo" if model_class(config.model_config.name).has_dense else "none",
        cpus_per_worker=config.cpus_per_worker,
        timeout_s=config.timeout_s,
    )


def _kept_encoder(dataset: BatchDataset) -> FeatureEncoder | None:
    return None if dataset.spec is None else dataset.encoder()


def _check_sets(train: BatchDataset, validation: BatchDataset | None, config: TrainConfig) -> None:
    if train.num_examples < config.num_workers:
        raise DataError(
            f"training set {train.folder} has {train.num_examples} examples for "
            f"num_workers = {config.num_workers}"
        )
    if validation is None:
        return
    if validation.num_examples == 0:
        raise DataError(f"validation set {validation.folder} is empty; leave it out, or fill it")
    if (train.slots, train.dense_names) != (validation.slots, validation.dense_names):
        raise DataError(
            f"{validation.folder} has slots {validation.slots} and dense columns "
            f"{validation.dense_names}, {train.folder} has {train.slots} and {train.dense_names}; "
            "encode both with the same encoder"
        )


def _ratio(total: float, weight: float) -> float:
    return total / weight if weight else float("nan")
