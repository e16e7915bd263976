"""Growing trees on a group of workers: rounds, validation, early stopping, checkpoints.

Workers hold a part of the examples each and sum their histograms (LightGBM's data-parallel
learner), so that all grow the same trees. This module holds the driver's side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from weiml.cluster import ray_running
from weiml.data import BatchDataset, BatchSource
from weiml.errors import ClusterError, DataError
from weiml.features import Batch, FeatureEncoder
from weiml.group import Group, LocalGroup, WorkerGroup
from weiml.models.trees import worker as work
from weiml.models.trees.checkpoints import TreeCheckpoints
from weiml.models.trees.columns import TreeColumns
from weiml.models.trees.config import GBDTConfig
from weiml.models.trees.model import GBDT
from weiml.models.trees.text import TreeText

__all__ = ["GBDTProgress", "GBDTResult", "GBDTTrainer"]


class GBDTProgress(NamedTuple):
    """How far a run is, every `GBDTConfig.progress_rounds` rounds."""

    round: int
    """From 1: trees grown so far."""
    rounds: int
    rounds_per_second: float
    auc: float
    """Of the validation set; NaN without one."""
    log_loss: float
    best_round: int
    """The best so far."""


@dataclass(frozen=True, kw_only=True)
class GBDTResult:
    """Trained trees: those up to the best round."""

    model: GBDT
    history: list[dict[str, float]]
    """One entry a round: round and, with a validation set, validation_auc, validation_log_loss."""
    best_round: int
    """How many trees were kept."""


class GBDTTrainer:
    """Grows trees. Use one object for one run at a time.

    Args:
        config: the run.
        encoder: saved with the model; by default the one kept beside the training set, if any.

    Example:
        >>> trainer = GBDTTrainer(GBDTConfig(rounds=200))  # doctest: +SKIP
        >>> result = trainer.fit(train, validation, progress=print)  # doctest: +SKIP
        >>> result.model.save("models/gbdt")  # doctest: +SKIP
    """

    def __init__(self, config: GBDTConfig, encoder: FeatureEncoder | None = None) -> None:
        self.config = config
        self._encoder = encoder

    def fit(
        self,
        train: BatchSource,
        validation: BatchSource | None = None,
        *,
        progress: Callable[[GBDTProgress], None] | None = None,
        checkpoints: str | Path | None = None,
    ) -> GBDTResult:
        """Grow trees, and keep those up to the best round (all without validation).

        With transport "ray" it uses the Ray it finds, else a local one for as long as it trains.
        However it ends, its workers are gone afterwards. Of W workers, each has the same number of
        examples; up to W − 1 at the end of the set go to nobody.

        Args:
            train: examples, read twice, and once more for each checkpoint.
            validation: held by rank 0.
            progress: called every `GBDTConfig.progress_rounds` rounds.
            checkpoints: a folder where a checkpoint is written each `checkpoint_rounds` rounds. If
                it holds one of the same configuration, the run goes on from there, and ends with
                the same trees to the bit as one that was never interrupted.

        Raises:
            DataError: a set is empty, their columns differ, labels are not 0 and 1, there is one
                class only, or the checkpoint is of other trees.
            ConfigError: LightGBM is not there, or refuses the configuration.
            ClusterError: Ray is not there, has no room, or a worker died.
        """
        work.import_lightgbm()
        _check_sets(train, validation, self.config)
        with ExitStack() as stack:
            if self.config.transport == "ray":
                stack.enter_context(ray_running())
            group = stack.enter_context(_make_group(self.config))
            run = _Run(self.config, group, train, validation, progress)
            run.checkpoints = TreeCheckpoints.of(checkpoints, self.config)
            run.prepare()
            while run.segment():
                pass
            return run.result(self._encoder or _kept_encoder(train))


@dataclass
class _Run:
    """The state of one `GBDTTrainer.fit`."""

    config: GBDTConfig
    group: Group
    train: BatchSource
    validation: BatchSource | None
    progress: Callable[[GBDTProgress], None] | None
    checkpoints: TreeCheckpoints | None = None
    trees: TreeText | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    best_round: int = 0
    _columns: TreeColumns | None = None
    _new: TreeText | None = None
    """Trees that the workers do not have in their scores."""
    _finished: bool = False

    def prepare(self) -> None:
        """Look at the examples, choose the vocabulary, bin, and read a checkpoint if there is."""
        surveys = self.group.execute(work.survey, self.train, self.config)
        _check_classes(surveys, self.train)
        self._columns = _fit_columns(self.train, surveys, self.config)
        if not self._columns.names:
            raise DataError(f"training set {self.train} leaves trees no column to split by")
        sample = Batch.concat([s.sample for s in surveys if s.sample is not None])
        weighted = any(s.weighted for s in surveys)
        arguments = (self.train, self.validation, self._columns, sample, self.config, weighted)
        self.group.execute(work.bin_examples, *arguments)
        kept = self.checkpoints.newest() if self.checkpoints is not None else None
        if kept is not None:
            if kept.columns.to_mapping() != self._columns.to_mapping():
                raise DataError(
                    f"the checkpoints in {self.checkpoints} are of other examples: their "
                    "vocabulary differs from the training set's; use another folder"
                )
            self.trees = self._new = kept.trees
            self.history = [dict(entry) for entry in kept.about["history"]]
            self._look()

    def segment(self) -> bool:
        """Grow the trees up to the next checkpoint; False when training is over."""
        start = self._done
        if self._finished or start >= self.config.rounds:
            return False
        addresses: list[work.Address] = []
        if self.group.num_workers > 1:
            addresses = self.group.execute(work.open_port)
        self.group.execute(work.start_segment, self._new, start, addresses)
        every = self.config.checkpoint_rounds or self.config.rounds
        stop = min((start // every + 1) * every, self.config.rounds)
        while self._done < stop and not self._finished:
            self._chunk(min(self.config.progress_rounds, stop - self._done))
        self._take_trees()
        if self.checkpoints is not None and self.config.checkpoint_rounds and self._new is not None:
            self.checkpoints.write(self._model(self.trees), self._done)
        return True

    def result(self, encoder: FeatureEncoder | None) -> GBDTResult:
        """Return the trees up to the best round."""
        assert self.trees is not None
        kept = self.best_round or len(self.trees)
        about: dict[str, Any] = {"best_round": kept}
        if self.validation is not None and self.history:
            about |= {k: v for k, v in self.history[kept - 1].items() if k != "round"}
        model = self._model(self.trees.first(kept), encoder=encoder, about=about)
        return GBDTResult(model=model, history=self.history, best_round=kept)

    @property
    def _done(self) -> int:
        return len(self.history)

    def _chunk(self, count: int) -> None:
        begun = time.perf_counter()
        first = self.group.execute(work.boost, count)[0]
        for i in range(first.rounds):
            entry: dict[str, float] = {"round": self._done + 1}
            if first.metrics:
                auc, loss = first.metrics[i]
                entry |= {"validation_auc": auc, "validation_log_loss": loss}
            self.history.append(entry)
        self._finished |= first.rounds < count
        self._look()
        if self.progress is not None and first.rounds:
            speed = first.rounds / (time.perf_counter() - begun)
            self.progress(self._report(speed))

    def _look(self) -> None:
        """Find the best round so far, and whether it is long ago."""
        if self.validation is None or not self.history:
            return
        name = self.config.early_stopping_metric
        sign = 1.0 if name == "auc" else -1.0
        values = [sign * entry[f"validation_{name}"] for entry in self.history]
        self.best_round = 1 + max(range(len(values)), key=values.__getitem__)
        patience = self.config.early_stopping_rounds
        if patience and self._done - self.best_round >= patience:
            self._finished = True

    def _take_trees(self) -> None:
        answers = self.group.execute(work.end_segment)
        if len({digest for _, digest in answers}) > 1:
            raise ClusterError(
                "the workers ended up with different trees, so their data does not fit together; "
                "run all of them on equal machines with the same LightGBM"
            )
        text = answers[0][0]
        assert text is not None
        text = text.first(self._done - (len(self.trees) if self.trees else 0))
        self._new = text
        self.trees = text if self.trees is None else self.trees.then(text)

    def _report(self, speed: float) -> GBDTProgress:
        last = self.history[-1]
        return GBDTProgress(
            self._done,
            self.config.rounds,
            speed,
            last.get("validation_auc", math.nan),
            last.get("validation_log_loss", math.nan),
            self.best_round,
        )

    def _model(
        self,
        trees: TreeText | None,
        *,
        encoder: FeatureEncoder | None = None,
        about: dict[str, Any] | None = None,
    ) -> GBDT:
        assert trees is not None
        assert self._columns is not None
        facts = about or {"history": self.history}
        return GBDT(self._columns, trees, config=self.config, encoder=encoder, about=facts)


def _make_group(config: GBDTConfig) -> Group:
    if config.transport == "embedded":
        return LocalGroup(1)
    return WorkerGroup.create(
        config.num_workers,
        backend="none",
        cpus_per_worker=config.cpus_per_worker,
        timeout_s=config.timeout_s,
    )


def _fit_columns(
    source: BatchSource, surveys: list[work.Survey], config: GBDTConfig
) -> TreeColumns:
    counts = surveys[0].counts
    for other in surveys[1:]:
        for mine, more in zip(counts, other.counts, strict=True):
            mine.merge(more)
    return TreeColumns.fit(
        source.slots,
        source.dense_names,
        counts,
        max_categories=config.max_categories,
        max_multi_hot=config.max_multi_hot,
        without=config.without,
    )


def _check_sets(train: BatchSource, validation: BatchSource | None, config: GBDTConfig) -> None:
    if train.num_examples < config.num_workers:
        raise DataError(
            f"training set {train} has {train.num_examples} examples for "
            f"num_workers = {config.num_workers}"
        )
    if validation is None:
        return
    if validation.num_examples == 0:
        raise DataError(f"validation set {validation} is empty; leave it out, or fill it")
    if (train.slots, train.dense_names) != (validation.slots, validation.dense_names):
        raise DataError(
            f"{validation} has slots {validation.slots} and dense columns "
            f"{validation.dense_names}, {train} has {train.slots} and {train.dense_names}; "
            "encode both with the same encoder"
        )


def _check_classes(surveys: list[work.Survey], train: BatchSource) -> None:
    positives = sum(s.positives for s in surveys)
    examples = sum(s.examples for s in surveys)
    if not 0 < positives < examples:
        raise DataError(
            f"training set {train} has {positives} positive examples of {examples}: trees need "
            "both classes"
        )


def _kept_encoder(source: BatchSource) -> FeatureEncoder | None:
    kept = isinstance(source, BatchDataset) and source.spec is not None
    return source.encoder() if kept else None  # type: ignore[attr-defined]
