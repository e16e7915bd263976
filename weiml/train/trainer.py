"""The trainer: a run on a server and workers of its own, gone on with when they die.

One loop for both transports: embedded, workers take turns in this process; on Ray they are actors.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weiml.cluster import ray_running
from weiml.data import BatchDataset
from weiml.errors import ClusterError, ConfigError, DataError, DivergedError, ParameterServerError
from weiml.features import FeatureEncoder
from weiml.group import Group, LocalGroup, WorkerGroup, WorkerGroupConfig
from weiml.models import ModelFolder, Predictor, Span, model_class
from weiml.ps import EmbeddedParameterServer, ParameterServer
from weiml.train.callbacks import Callback, OnProgress, ProgressCallback
from weiml.train.checkpoints import Checkpoints, bits_of
from weiml.train.config import TrainConfig
from weiml.train.elastic import gang_sizes, one_machine, resized, sizes_of
from weiml.train.run import Run
from weiml.train.trace import write_trace

__all__ = [
    "TrainResult",
    "Trainer",
    "check_new_folder",
    "make_group",
    "make_server",
]


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
    steps: int
    """How many steps each worker took."""
    global_step: int
    """How many steps all workers took together."""
    version: str
    config: TrainConfig
    stopped: str = ""
    """Why it ended before its last epoch; "" if it did not."""
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
        self._begun = False  # whether workers of this run have been at work
        self._too_many: int | None = None  # a gang that could not start though it looked so
        if server is not None and server.config.num_workers != config.num_workers:
            raise ConfigError(
                f"the parameter server has num_workers = {server.config.num_workers} in its clock, "
                f"the training {config.num_workers}; make them equal"
            )
        if server is not None and config.is_elastic:
            raise ConfigError(
                "min_workers and max_workers need a parameter server of the run's own, whose clock "
                "is made for the workers that there are; leave them out, or pass no server"
            )

    def fit(
        self,
        train: BatchDataset,
        validation: BatchDataset | None = None,
        *,
        progress: ProgressCallback | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoints: str | Path | None = None,
        trace: str | Path | None = None,
    ) -> TrainResult:
        """Train, validate after each epoch, and keep the best epoch (the last without validation).

        With transport "ray" it uses the Ray it finds (see `weiml.cluster.ensure_ray`), else a local
        one for as long as it trains. However it ends, workers and a server of its own are gone
        afterwards, the server after the workers. A server that was passed in holds the best epoch's
        rows.

        Args:
            train: the training set.
            validation: scored after each epoch.
            progress: called every `progress_steps` steps.
            callbacks: told of what happens; they may end the run.
            checkpoints: folder of checkpoints, of this run alone. If it holds some, the run goes on
                from the newest, to the bit under BSP with as many workers. Where the cluster has
                several machines, all of them must see it. Without one, a run on Ray with
                `checkpoint_steps` keeps temporary ones. With either, it goes on when workers or
                servers die.
            trace: file to write the stages of all steps to, as a trace that Perfetto and
                chrome://tracing show.

        Raises:
            DataError: a set is empty, their columns differ, or values are not finite.
            ConfigError: the configuration does not fit.
            DivergedError: a loss was not finite, or exploded.
            ClusterError: Ray is not there, has no room, or workers died too often.
            ParameterServerError: a shard failed too often.
        """
        _check_sets(train, validation, self.config)
        files = tempfile.TemporaryDirectory(prefix="weiml-train-")
        folder = Path(files.name)
        told = [*callbacks, *([] if progress is None else [OnProgress(progress)])]
        kept = self._checkpoints(checkpoints, folder)
        failures = 0
        spans: list[tuple[int, Span]] = []
        self._begun = False
        self._too_many = None
        with ExitStack() as stack:
            if self._server is None and self.config.transport == "ray":
                stack.enter_context(ray_running())
            while True:
                try:
                    run, done = self._run(train, validation, folder, told, kept, trace is not None)
                    spans += run.spans
                    if done:
                        break
                except (ClusterError, ParameterServerError) as error:
                    failures += 1
                    if not self._can_go_on(kept, failures):
                        raise
                    for callback in told:
                        callback.on_restart(error)
                    if self._server is not None:
                        for rank in range(self.config.num_workers):
                            self._server.declare_dead(rank)
                except DivergedError as error:
                    raise DivergedError(f"{error}. {_last_good(kept, checkpoints)}") from None
        if trace is not None:
            write_trace(trace, spans)
        best = ModelFolder.open(folder / "best")
        return TrainResult(
            history=run.history,
            curve=run.curve,
            best_epoch=run.best_epoch,
            steps=run.steps,
            global_step=run.global_step,
            version=best.version,
            config=self.config,
            stopped=run.stopped,
            _files=files,
        )

    def _can_go_on(self, kept: Checkpoints | None, failures: int) -> bool:
        """Return whether a run goes on after so many failures."""
        if kept is None or not self._begun or failures > self.config.max_restarts:
            return False  # what could not even begin will not by itself
        # Without a checkpoint nobody knows any more what a server that was passed in held at first.
        return self._server is None or kept.latest() is not None

    def _checkpoints(self, root: str | Path | None, folder: Path) -> Checkpoints | None:
        if root is not None:
            return Checkpoints(root, self.config.keep_checkpoints)
        alone = self.config.transport == "embedded" or self._server is not None
        if alone or not (self.config.max_restarts and self.config.checkpoint_steps):
            return None
        return Checkpoints(folder / "checkpoints", 1)

    def _run(
        self,
        train: BatchDataset,
        validation: BatchDataset | None,
        folder: Path,
        callbacks: Sequence[Callback],
        checkpoints: Checkpoints | None,
        traced: bool,
    ) -> tuple[Run, bool]:
        """Run to the end on workers, and unless one was given a server, that live for it.

        False: there is room for more workers, with whom it can go on from its last checkpoint.
        """
        config = self.config
        checkpoint = None
        if checkpoints is not None:
            checkpoint = checkpoints.latest_of(bits_of(config), train.num_examples)
        with ExitStack() as stack:
            server, group = self._start(stack)
            run = Run(
                config,
                server,
                group,
                train,
                validation,
                encoder=self._encoder or _kept_encoder(train),
                folder=folder,
                callbacks=callbacks,
                checkpoints=checkpoints,
                traced=traced,
            )
            run.start(checkpoint)
            self._begun = True

            growing = config.is_elastic and checkpoints is not None
            return run, run.go(pause=lambda: growing and self._could_grow(group))

    def _start(self, stack: ExitStack) -> tuple[ParameterServer, Group]:
        """Start the servers, unless some were given, and the workers, as many as there is room for.

        A gang that does not come is tried smaller; the smallest one's error is raised.
        """
        config = self.config
        if not config.is_elastic:
            server = self._server or stack.enter_context(make_server(config))
            embedded = isinstance(server, EmbeddedParameterServer)
            return server, stack.enter_context(make_group(config, embedded=embedded))
        layout = one_machine(_group_config(config), config.fewest_workers)
        for size in self._possible(gang_sizes(config, layout)):
            with ExitStack() as trying:
                server = trying.enter_context(make_server(resized(config, size)))
                try:
                    group = trying.enter_context(
                        WorkerGroup.start(replace(layout, num_workers=size))
                    )
                except ClusterError:
                    if size == sizes_of(config)[0]:
                        raise
                    self._too_many = size
                    continue
                stack.enter_context(trying.pop_all())
                return server, group
        raise AssertionError("the smallest gang starts or raises")

    def _possible(self, sizes: list[int]) -> list[int]:
        """Return the sizes below one that could not start, and the smallest there is."""
        below = [size for size in sizes if self._too_many is None or size < self._too_many]
        return [*below, *(size for size in sizes_of(self.config)[:1] if size not in below)]

    def _could_grow(self, group: Group) -> bool:
        """Return whether a larger gang would find room in place of this one."""
        assert isinstance(group, WorkerGroup)
        layout = one_machine(_group_config(self.config), self.config.fewest_workers)
        there = self._possible(gang_sizes(self.config, layout, held=group.workers))
        return there[0] > group.num_workers


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
        return LocalGroup(config.num_workers, compression=config.group.compression)
    return WorkerGroup.start(_group_config(config))


def _group_config(config: TrainConfig) -> WorkerGroupConfig:
    averaged = model_class(config.model_config.name).has_dense and config.dense == "group"
    return replace(
        config.group,
        num_workers=config.num_workers,
        min_workers=None,
        max_workers=None,
        backend=config.group.backend if averaged else "none",
        cpus_per_worker=config.cpus_per_worker,
        start_timeout_s=config.timeout_s,
        collective_timeout_s=config.timeout_s,
    )


def _kept_encoder(dataset: BatchDataset) -> FeatureEncoder | None:
    return None if dataset.spec is None else dataset.encoder()


def _check_sets(train: BatchDataset, validation: BatchDataset | None, config: TrainConfig) -> None:
    if train.num_examples < config.num_workers:
        raise DataError(
            f"training set {train.folder} has {train.num_examples} examples for "
            f"num_workers = {config.num_workers}"
        )
    tasks = getattr(config.model_config, "tasks", ())
    train.check_tasks(tasks, f"model {config.model_config.name!r}")
    if validation is None:
        return
    validation.check_tasks(tasks, f"model {config.model_config.name!r}")
    if validation.num_examples == 0:
        raise DataError(f"validation set {validation.folder} is empty; leave it out, or fill it")
    if (train.slots, train.dense_names) != (validation.slots, validation.dense_names):
        raise DataError(
            f"{validation.folder} has slots {validation.slots} and dense columns "
            f"{validation.dense_names}, {train.folder} has {train.slots} and {train.dense_names}; "
            "encode both with the same encoder"
        )


def _last_good(checkpoints: Checkpoints | None, root: str | Path | None) -> str:
    """Say what a run that diverged can go back to."""
    found = None if checkpoints is None or root is None else checkpoints.latest()
    if found is None:
        return (
            "There is no checkpoint to go back to: give fit(checkpoints=...), or weiml train "
            "--checkpoints, a folder"
        )
    return f"The last good checkpoint is {found.path}, at step {found.run['steps']}"
