"""One run of the training loop: epochs of steps, validation, checkpoints, the best epoch kept.

It is built anew when it goes on after a failure; what it needs then is in its checkpoint.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weiml.config import to_mapping
from weiml.data import BatchDataset
from weiml.errors import DataError
from weiml.features import FeatureEncoder
from weiml.group import Group
from weiml.models import (
    DENSE_VECTOR,
    Columns,
    Model,
    ModelFolder,
    Predictor,
    Span,
    build_model,
    pulled,
    save_model,
)
from weiml.ps import Cut, ParameterServer
from weiml.train import worker as work
from weiml.train.callbacks import Callback, Progress
from weiml.train.checkpoints import Checkpoint, Checkpoints, bits_of
from weiml.train.config import TrainConfig
from weiml.train.elastic import regrouped, resized
from weiml.train.evaluate import evaluate_model
from weiml.train.inputs import steps_of

__all__ = ["Run", "make_model"]


class Run:
    """The state of a run. Not thread-safe.

    Args:
        config: the run.
        server: where its tables are made.
        group: its workers.
        train: the training set.
        validation: scored after each epoch.
        encoder: saved with the model.
        folder: where ``best/`` is put.
        callbacks: told of what happens.
        checkpoints: where to keep checkpoints, if anywhere.
        traced: whether the moments of stages are kept.
    """

    def __init__(
        self,
        config: TrainConfig,
        server: ParameterServer,
        group: Group,
        train: BatchDataset,
        validation: BatchDataset | None,
        *,
        encoder: FeatureEncoder | None,
        folder: Path,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        traced: bool = False,
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.server = server
        self.group = group
        self.train = train
        self.validation = validation
        self.folder = folder
        self.callbacks = callbacks
        self.checkpoints = checkpoints
        self.history: list[dict[str, Any]] = []
        self.curve: list[dict[str, Any]] = []
        self.spans: list[tuple[int, Span]] = []
        """(rank, span) of all stages, if they are traced."""
        self.best_epoch = 0
        self.steps = 0
        """Taken by each worker."""
        self.stopped = ""
        """Why the run ended before its last epoch; "" if it did not."""
        self._traced = traced
        self._best_value: float | None = None
        self._columns = Columns(slots=train.slots, dense_names=train.dense_names)
        self._model = make_model(config, self._columns)
        self._sized = resized(config, group.num_workers)
        # The same examples for every gang, so that all take as many steps.
        batches = config.num_workers * (config.accumulate if config.is_elastic else 1)
        self._share = train.num_examples // batches * batches // group.num_workers
        self._epoch = 0
        self._done = 0  # steps of the epoch
        self._sums = [0, 0.0, 0.0, 0.0]  # of the epoch: examples, weight, loss, seconds
        self._broken_off = False  # in the middle of an epoch
        self._uncounted = 0  # ticks that the server had counted more than there are steps
        self._written = -1  # the step of the last checkpoint
        self.global_step = 0
        """Steps of all workers together."""

    @property
    def total_steps(self) -> int:
        """Of each worker in all epochs."""
        return sum(self._steps_of(epoch) for epoch in range(self.config.epochs))

    def start(self, checkpoint: Checkpoint | None = None) -> None:
        """Create the tables and start the workers, as new or as they were at a checkpoint."""
        config = self.config
        for table in self._model.tables():
            self.server.create_table(table)
        on_servers = config.dense == "servers" and self._model.has_dense
        if on_servers:
            self.server.create_vector(DENSE_VECTOR, self._model.dense_vector())
        if checkpoint is not None:
            self.server.load(checkpoint.server)
        spec = work.WorkerSpec(
            model_config=config.model_config,
            columns=self._columns,
            seed=config.seed,
            batch_size=config.batch_size,
            first_batch_size=config.first_batch_size,
            accumulate=self._sized.accumulate,
            source=BatchDataset.open(  # workers may run elsewhere
                self.train.folder.resolve(), split=config.split
            ),
            server=self.server,
            wire=config.wire,
            threads=config.threads_of_worker,
            lr_schedule=config.lr_schedule,
            total_steps=self.total_steps,
            dense_on_servers=on_servers,
            explosion=config.explosion,
            traced=self._traced,
        )
        self.group.execute(work.start_worker, spec)
        before = config.num_workers
        if checkpoint is not None:
            before = checkpoint.run.get("workers", before)
            self._restore(checkpoint)
            for callback in self.callbacks:
                callback.on_resume(self.steps, checkpoint.path)
        self._uncounted = self.server.status()["global_step"] - self.global_step
        for callback in self.callbacks:
            if self.group.num_workers != before:
                callback.on_resize(self.group.num_workers)
            callback.on_start(self.total_steps)

    def go(self, *, pause: Callable[[], bool] = lambda: False) -> bool:
        """Run to the end: all epochs, or fewer if validation or a callback says so.

        False: `pause`, asked between epochs, held it up; its last checkpoint is where it is.
        """
        while self._epoch < self.config.epochs and not self.stopped:
            self._train_epoch()
            self._end_epoch()
            if self._epoch < self.config.epochs and not self.stopped and pause():
                self.group.execute(work.finish)
                return False
        self._finish()
        return True

    def _train_epoch(self) -> None:
        config = self.config
        steps = self._steps_of(self._epoch)
        before = self.steps - self._done
        self.group.execute(_start_epoch, self._epoch, self._done, steps, before, self._losses)
        while self._done < steps and not self.stopped:
            begun = time.perf_counter()
            count = min(config.progress_steps, steps - self._done)
            every = config.checkpoint_steps
            if self.checkpoints is not None and every:
                count = min(count, every - self.steps % every)
            chunks = self.group.run(work.run_steps, count)
            self._done += count
            self.steps += count
            self.global_step += count * self.group.num_workers
            self._count(chunks, time.perf_counter() - begun, steps)
            at_checkpoint = self.checkpoints and every and self.steps % every == 0
            if at_checkpoint and self._done < steps and not self.stopped:
                self._checkpoint()
        if self._done < steps and self.checkpoints is not None:
            self._checkpoint()  # a callback ended the run: it can go on from here
            self._broken_off = True

    def _count(self, chunks: list[work.ChunkResult], seconds: float, steps: int) -> None:
        """Add up what some steps saw, and tell."""
        examples = sum(chunk.examples for chunk in chunks)
        weight = sum(chunk.weight for chunk in chunks)
        loss = sum(chunk.loss for chunk in chunks)
        for rank, chunk in enumerate(chunks):
            self.spans += [(rank, span) for span in chunk.spans]
        self._sums = [
            self._sums[0] + examples,
            sum(chunk.epoch_weight for chunk in chunks),
            sum(chunk.epoch_loss for chunk in chunks),
            self._sums[3] + seconds,
        ]
        self.curve.append(
            {
                "epoch": self._epoch + 1,
                "step": self.steps,
                "examples": self._epoch * self.train.num_examples + self._sums[0],
                "loss": _ratio(loss, weight),
            }
        )
        at = Progress(
            self._epoch + 1,
            self.config.epochs,
            self._done,
            steps,
            self._sums[0] / self._sums[3],
            _ratio(self._sums[2], self._sums[1]),
            self.config.lr_schedule.factor(self.steps, self.total_steps, self._losses),
            self.global_step,
            tuple(self._global_steps(chunk.numbers) for chunk in chunks),
        )
        for callback in self.callbacks:
            if callback.on_progress(at):
                self.stopped = _asked(callback)

    def _global_steps(self, numbers: np.ndarray) -> np.ndarray:
        """Return what the server's numbers are in this run; 0, a lost one, stays."""
        return np.where(numbers > 0, numbers - self._uncounted, 0)

    def _end_epoch(self) -> None:
        """Validate, keep the best, and decide whether to go on."""
        examples, weight, loss, seconds = self._sums
        entry: dict[str, Any] = {
            "epoch": self._epoch + 1,
            "examples": examples,
            "seconds": seconds,
            "examples_per_second": examples / seconds if seconds else float("nan"),
            "train_loss": _ratio(loss, weight),
            "steps": self.steps,
        }
        predictor = self._predictor()
        better = True
        if self.validation is not None:
            metrics, _ = evaluate_model(predictor, self.validation)
            entry |= {f"validation_{name}": value for name, value in metrics.items()}
            better = self._is_better(metrics.get(self.config.early_stopping_metric, math.nan))
        entry["best"] = better
        self.history.append(entry)
        if better:
            self._keep()
        self._epoch += 1
        self._done = 0
        self._sums = [0, 0.0, 0.0, 0.0]
        self._lose_patience()
        for callback in self.callbacks:
            if callback.on_epoch(entry):
                self.stopped = self.stopped or _asked(callback)
        if self.checkpoints is not None and not self._broken_off:
            self._checkpoint()
            self.checkpoints.forget_bests_but(self.best_epoch)

    def _lose_patience(self) -> None:
        """Stop if the best epoch is long ago, and there are more to come."""
        patience = self.config.early_stopping_patience
        waited = self._epoch - self.best_epoch
        if patience and waited >= patience and self._epoch < self.config.epochs:
            self.stopped = self.stopped or (
                f"validation {self.config.early_stopping_metric} was no better than in epoch "
                f"{self.best_epoch} for early_stopping_patience = {patience} epoch"
                f"{'s' if patience > 1 else ''}"
            )

    @property
    def _losses(self) -> tuple[float, ...]:
        """The validation metric after each epoch, less being better."""
        if self.validation is None:
            return ()
        name = f"validation_{self.config.early_stopping_metric}"
        return tuple(float(entry[name]) * self._sign for entry in self.history)

    def _finish(self) -> None:
        """Let the workers leave, and give a server that stays open the best epoch's rows."""
        self.group.execute(work.finish)
        if self.best_epoch < len(self.history):
            self.server.load(str(self._best.server_state))
        for callback in self.callbacks:
            callback.on_end()

    def _predictor(self) -> Predictor:
        """Return a predictor of the applied rows and the workers' dense part."""
        vector, state = self.group.execute(work.dense_part)[0]
        client = self.server.client()
        if self.config.dense == "servers" and self._model.has_dense:
            vector = pulled(client, client.pull_vector(DENSE_VECTOR))
        self._model.set_dense_vector(vector)
        self._model.set_dense_state(state)
        self._delta = client.delta(Cut.zero())
        return Predictor(self._model, self._delta.tables)

    @property
    def _sign(self) -> float:
        """By which the metric is multiplied to be better when it is less."""
        return 1.0 if self.config.early_stopping_metric == "log_loss" else -1.0

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            raise DataError(
                f"the validation set has no {self.config.early_stopping_metric} (one class only, "
                "or no weight), so no epoch is better than another; validate on other examples, or "
                "set early_stopping_metric"
            )
        if self._best_value is not None and not self._sign * value < self._sign * self._best_value:
            return False
        self._best_value = value
        return True

    def _keep(self) -> None:
        """Save the model as it is as the best one."""
        shutil.rmtree(self.folder / "best", ignore_errors=True)
        self._best = save_model(
            self.folder / "best",
            self._model,
            self.server,
            encoder=self.encoder,
            delta=self._delta,
            about={"config": to_mapping(self.config), "epoch": self._epoch + 1},
        )
        self.best_epoch = self._epoch + 1
        if self.checkpoints is not None:
            self.checkpoints.keep_best(self.best_epoch, self.folder / "best")

    def _checkpoint(self) -> None:
        assert self.checkpoints is not None
        if self.steps == self._written and self._done:
            return
        run = {
            "config": bits_of(self.config),
            "examples": self.train.num_examples,
            "epoch": self._epoch,
            "done": self._done,
            "steps": self.steps,
            "global_step": self.global_step,
            "workers": self.group.num_workers,
            "sums": self._sums,
            "history": self.history,
            "curve": self.curve,
            "best_epoch": self.best_epoch,
            "best_value": self._best_value,
        }
        workers = self.group.execute(work.save_worker)
        path = self.checkpoints.write(self.steps, run, workers, self.server)
        self._written = self.steps
        for callback in self.callbacks:
            callback.on_checkpoint(path)

    def _restore(self, checkpoint: Checkpoint) -> None:
        run = checkpoint.run
        states = regrouped(checkpoint.workers(), self.group.num_workers)
        self.group.execute(work.restore_worker, states)
        self._epoch, self._done, self.steps = run["epoch"], run["done"], run["steps"]
        self.global_step = run.get("global_step", self.steps * self.config.num_workers)
        self._sums = list(run["sums"])
        self.history, self.curve = list(run["history"]), list(run["curve"])
        self.best_epoch, self._best_value = run["best_epoch"], run["best_value"]
        if not self._done:
            self._lose_patience()
        self._written = self.steps
        if self.best_epoch:
            assert self.checkpoints is not None
            shutil.rmtree(self.folder / "best", ignore_errors=True)
            shutil.copytree(self.checkpoints.best(self.best_epoch), self.folder / "best")
            self._best = ModelFolder.open(self.folder / "best")

    def _steps_of(self, epoch: int) -> int:
        config = self._sized
        return steps_of(
            self._share, config.batch_size, config.first_batch_size, epoch, config.accumulate
        )


def make_model(config: TrainConfig, columns: Columns) -> Model:
    """Make the driver's copy of the model that a configuration asks for."""
    return build_model(
        config.model_config.name,
        config.model_config,
        columns,
        seed=config.seed,
        threads=config.threads_of_worker,
    )


def _start_epoch(
    context: Any, epoch: int, done: int, steps: int, steps_before: int, losses: tuple[float, ...]
) -> None:
    work.start_epoch(
        context, epoch, done=done, steps=steps, steps_before=steps_before, losses=losses
    )


def _asked(callback: Callback) -> str:
    return f"{type(callback).__name__} asked for it"


def _ratio(total: float, weight: float) -> float:
    return total / weight if weight else float("nan")
