"""One pass over a stream of examples, each predicted before it is learned from.

On an embedded server logistic regression trains in place, on the shards' own rows: no row is
copied, and a second thread reads ahead. Everything else goes the workers' way, as in `Trainer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from weiml.data import BatchSource
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models import (
    DENSE_VECTOR,
    Columns,
    LinearConfig,
    LinearModel,
    Model,
    ModelFolder,
    StepResult,
    pulled,
    save_model,
)
from weiml.ps import EmbeddedParameterServer, ParameterServer
from weiml.train import worker as work
from weiml.train.config import TrainConfig
from weiml.train.in_place import train_in_place
from weiml.train.inputs import steps_of
from weiml.train.run import make_model
from weiml.train.trainer import make_group

__all__ = ["StreamProgress", "StreamResult", "StreamTrainer"]


@dataclass(frozen=True, kw_only=True)
class StreamResult:
    """What a pass saw, up to now or in all."""

    examples: int
    weight: float
    """Sum of the examples' weights."""
    loss: float
    """Progressive log-loss: the weighted mean over the examples, each before it was learned."""
    seconds: float
    stages: dict[str, float]
    """Seconds of each stage, over all workers: see `weiml.train.worker.ChunkResult`, and
    `weiml.train.in_place`."""

    @property
    def examples_per_second(self) -> float:
        """Of all workers together."""
        return self.examples / self.seconds if self.seconds else float("nan")


StreamProgress = Callable[[StreamResult], None]


class StreamTrainer:
    """Trains a model in one pass; the server, which stays open, holds what was learned.

    Args:
        config: the model, batch_size, and num_workers equal to the server's; epochs and early
            stopping are not used. Examples keep their order.
        server: of either transport; tables that it has go on learning.

    Example:
        >>> config = TrainConfig(model="lr", batch_size=4096)  # doctest: +SKIP
        >>> with make_server(config) as server:  # doctest: +SKIP
        ...     trainer = StreamTrainer(config, server)
        ...     print(trainer.fit(ParquetKeys("clicks.parquet")).loss)
        ...     trainer.save("models/clicks")
    """

    def __init__(self, config: TrainConfig, server: ParameterServer) -> None:
        if server.config.num_workers != config.num_workers:
            raise ConfigError(
                f"the parameter server has num_workers = {server.config.num_workers} in its clock, "
                f"the training {config.num_workers}; make them equal"
            )
        self.config = config
        self.model: Model | None = None
        """Made when the columns of the examples are known."""
        self._server = server

    def fit(
        self,
        examples: BatchSource | Iterable[Batch],
        *,
        progress: StreamProgress | None = None,
    ) -> StreamResult:
        """Train on all examples once; may be called again with more.

        Args:
            examples: a source that every worker can read, or, where there is one worker on an
                embedded server and the model is linear, any batches.
            progress: called every ``config.progress_steps`` steps with the totals up to then.

        Raises:
            DataError: there are no examples, columns differ, or values are not finite.
            ConfigError: the examples do not fit the server, or training diverged.
            ClusterError: a worker died, or Ray has no room.
            ParameterServerError: a shard failed.
        """
        tally = _Tally(progress)
        if self._in_place:
            assert isinstance(self._server, EmbeddedParameterServer)
            batches, columns = self._batches(examples)
            model = self._model_for(columns)
            assert isinstance(model, LinearModel)
            for result in train_in_place(model, self._server, batches):
                tally.add(result)
                if tally.steps % self.config.progress_steps == 0:
                    tally.report(model.stages.take())
            tally.report(model.stages.take())
        else:
            self._fit_by_workers(examples, tally)
        if not tally.steps:
            raise DataError(f"there are no examples in {examples}")
        return tally.result()

    def save(self, folder: str | Path, *, about: dict[str, Any] | None = None) -> ModelFolder:
        """Save what was learned to a new folder, for `weiml.models.Predictor`.

        Raises:
            ConfigError: nothing was learned yet.
        """
        if self.model is None:
            raise ConfigError("there is nothing to save: call fit first")
        return save_model(folder, self.model, self._server, about=about)

    @property
    def _in_place(self) -> bool:
        here = isinstance(self._server, EmbeddedParameterServer) and self.config.num_workers == 1
        return here and isinstance(self.config.model_config, LinearConfig)

    def _batches(self, examples: BatchSource | Iterable[Batch]) -> tuple[Iterable[Batch], Columns]:
        if isinstance(examples, BatchSource):
            return examples.iter_batches(self.config.batch_size), _columns(examples)
        batches = iter(examples)
        first = next(batches, None)
        if first is None:
            raise DataError("there is no batch to learn from")
        return chain([first], batches), Columns.of(first)

    def _model_for(self, columns: Columns) -> Model:
        """Return the model, with its tables on the server."""
        if self.model is None:
            config = self.config
            self.model = make_model(config, columns)
            for table in self.model.tables():
                self._server.create_table(table)
        return self.model

    def _fit_by_workers(self, examples: BatchSource | Iterable[Batch], tally: _Tally) -> None:
        if not isinstance(examples, BatchSource):
            raise ConfigError(
                f"each worker reads its own part, so several workers, Ray and model "
                f"{self.config.model_config.name!r} need a BatchDataset, ParquetKeys or another "
                f"BatchSource; got {type(examples).__name__}"
            )
        config = self.config
        model = self._model_for(_columns(examples))
        on_servers = config.dense == "servers" and model.has_dense
        if on_servers:
            self._server.create_vector(DENSE_VECTOR, model.dense_vector())
        spec = work.WorkerSpec(
            model_config=config.model_config,
            columns=model.columns,
            seed=config.seed,
            batch_size=config.batch_size,
            first_batch_size=config.first_batch_size,
            source=examples,
            server=self._server,
            wire=config.wire,
            threads=config.threads_of_worker,
            lr_schedule=config.lr_schedule,
            accumulate=config.accumulate,
            dense_on_servers=on_servers,
            explosion=config.explosion,
            shuffled=False,
            dense=(model.dense_vector(), model.dense_state()),
        )
        share = examples.num_examples // config.num_workers
        steps = steps_of(share, config.batch_size, config.first_batch_size, 0, config.accumulate)
        embedded = isinstance(self._server, EmbeddedParameterServer)
        with make_group(config, embedded=embedded) as group:
            group.execute(work.start_worker, spec)
            tally.begin()
            group.execute(work.start_epoch, 0)
            for step in range(0, steps, config.progress_steps):
                count = min(config.progress_steps, steps - step)
                for chunk in group.run(work.run_steps, count):
                    tally.add(StepResult(chunk.examples, chunk.weight, chunk.loss), chunk.seconds)
                tally.report({})
            group.execute(work.finish)
            tally.end()
            vector, state = group.execute(work.dense_part)[0]
        if on_servers:
            client = self._server.client()
            vector = pulled(client, client.pull_vector(DENSE_VECTOR))
        model.set_dense_vector(vector)
        model.set_dense_state(state)


class _Tally:
    """The totals of a pass."""

    def __init__(self, progress: StreamProgress | None) -> None:
        self.steps = 0
        self._progress = progress
        self._examples = 0
        self._weight = 0.0
        self._loss = 0.0
        self._stages: dict[str, float] = {}
        self.begin()

    def begin(self) -> None:
        """Count the seconds from now on."""
        self._start = time.perf_counter()
        self._end: float | None = None

    def end(self) -> None:
        """Count no more seconds."""
        self._end = time.perf_counter()

    def add(self, result: StepResult, stages: Mapping[str, float] | None = None) -> None:
        """Count what a step, or several of a worker, saw."""
        self.steps += 1
        self._examples += result.examples
        self._weight += result.weight
        self._loss += result.loss
        for stage, seconds in (stages or {}).items():
            self._stages[stage] = self._stages.get(stage, 0.0) + seconds

    def report(self, stages: Mapping[str, float]) -> None:
        """Count the seconds of stages, and tell who asked for progress."""
        self.add(StepResult(0, 0.0, 0.0), stages)
        self.steps -= 1
        if self._progress is not None:
            self._progress(self.result())

    def result(self) -> StreamResult:
        """Return the totals up to now."""
        return StreamResult(
            examples=self._examples,
            weight=self._weight,
            loss=self._loss / self._weight if self._weight else float("nan"),
            seconds=(self._end or time.perf_counter()) - self._start,
            stages=dict(self._stages),
        )


def _columns(source: BatchSource) -> Columns:
    return Columns(slots=source.slots, dense_names=source.dense_names)
