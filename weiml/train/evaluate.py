"""Evaluation of a model on a data set, with the scorer that serves it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weiml.data import BatchDataset
from weiml.errors import DataError
from weiml.features import Batch
from weiml.models import Predictor, Scorer, evaluate_scores
from weiml.train.evaluate_classes import evaluate_class_model

__all__ = ["Evaluation", "evaluate_model", "evaluate_tasks_of", "score_dataset"]

_BATCH_SIZE = 8192  # bounds the memory of pooled embeddings; scores do not depend on it


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a model did on a data set, task by task."""

    tasks: tuple[str, ...]
    main_task: int
    by_task: dict[str, dict[str, float]]
    """`weiml.models.evaluate_scores` of each task."""
    scores: np.ndarray
    """float32 (n, T)."""
    data: Batch
    label_columns: tuple[int, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """By name: ``auc`` the main task's; of several tasks also ``click_auc``, ``buy_auc``."""
        metrics = dict(self.by_task[self.tasks[self.main_task]])
        if len(self.tasks) > 1:
            for task, own in self.by_task.items():
                metrics |= {f"{task}_{name}": value for name, value in own.items()}
        return metrics

    def table(self) -> pa.Table:
        """Return a row an example: score and label, group, item, time.

        Of several tasks, ``score`` and ``label`` are the main one's, and each has columns of its
        own too: ``click_score``, ``click_label``. A missing label is NaN.
        """
        named = [("", self.main_task)]
        if len(self.tasks) > 1:
            named += [(f"{task}_", at) for at, task in enumerate(self.tasks)]
        columns = {f"{prefix}score": pa.array(self.scores[:, at]) for prefix, at in named}
        for prefix, at in named:
            columns[f"{prefix}label"] = pa.array(self._labels(at))
        columns |= {
            "group": pa.array(self.data.groups),
            "item": pa.array(self.data.items),
            "time": pa.array(self.data.times),
        }
        return pa.table(columns)

    def _labels(self, task: int) -> np.ndarray:
        if not len(self.data):
            return np.empty(0, np.float32)
        return np.ascontiguousarray(self.data.labels[:, self.label_columns[task]])


def score_dataset(
    scorer: Scorer, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> np.ndarray:
    """Return float32 (n,) probabilities of the main task in the order of the data."""
    scores = [scorer.score(batch) for batch in _batches(dataset, batch_size)]
    return np.concatenate(scores) if scores else np.empty(0, np.float32)


def evaluate_model(
    scorer: Scorer, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> tuple[dict[str, float], np.ndarray]:
    """Return (`Evaluation.metrics`, main task's scores float32 (n,)); see `evaluate_tasks_of`."""
    if isinstance(scorer, Predictor) and scorer.model.scores_kind == "classes":
        # Not by way of a table of all examples: their images need not fit into memory.
        metrics, scores = evaluate_class_model(scorer, dataset)
        return metrics, scores.argmax(1).astype(np.float32)
    found = evaluate_tasks_of(scorer, dataset, batch_size=batch_size)
    return found.metrics, np.ascontiguousarray(found.scores[:, found.main_task])


def evaluate_tasks_of(
    scorer: Scorer, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> Evaluation:
    """Score a data set, and measure each task over the examples that have its label (not NaN).

    A model of classes has one task, ``class``, measured by `weiml.models.evaluate_classes`; its
    scores are the numbers of the likeliest classes. `evaluate_class_model` gives probabilities.

    Raises:
        DataError: the data has no label for a task, or labels of other names.
    """
    if isinstance(scorer, Predictor) and scorer.model.scores_kind == "classes":
        return _evaluate_classes(scorer, dataset)
    if isinstance(dataset, BatchDataset):
        dataset.check_tasks(scorer.tasks, f"model {scorer.name!r}")
    scored = [scorer.score_tasks(batch) for batch in _batches(dataset, batch_size)]
    scores = np.concatenate(scored) if scored else np.empty((0, len(scorer.tasks)), np.float32)
    data = dataset if isinstance(dataset, Batch) else dataset.read()
    _check_labels(scorer, data)
    return Evaluation(
        tasks=scorer.tasks,
        main_task=scorer.main_task,
        by_task={
            name: _evaluate_task(data, scorer.label_columns[task], scores[:, task])
            for task, name in enumerate(scorer.tasks)
        },
        scores=scores,
        data=data,
        label_columns=scorer.label_columns,
    )


def _evaluate_classes(predictor: Predictor, dataset: BatchDataset | Batch) -> Evaluation:
    """Return the evaluation of a model of classes."""
    metrics, scores = evaluate_class_model(predictor, dataset)
    return Evaluation(
        tasks=("class",),
        main_task=0,
        by_task={"class": metrics},
        scores=scores.argmax(1).astype(np.float32)[:, None],
        data=dataset if isinstance(dataset, Batch) else dataset.read(),
        label_columns=(0,),
    )


def _evaluate_task(data: Batch, column: int, scores: np.ndarray) -> dict[str, float]:
    """Return a task's metrics over the examples that have its label."""
    labels = data.labels[:, column] if len(data) else np.empty(0, np.float32)
    known = ~np.isnan(labels)
    if known.all():
        return evaluate_scores(labels, scores, data.groups, data.weights)
    return evaluate_scores(labels[known], scores[known], data.groups[known], data.weights[known])


def _check_labels(scorer: Scorer, data: Batch) -> None:
    wanted = max(scorer.label_columns) + 1
    if len(data) and data.labels.shape[1] < wanted:  # no examples, no telling how many labels
        raise DataError(
            f"model {scorer.name!r} with tasks {scorer.tasks} is evaluated by label columns "
            f"{scorer.label_columns}, the data has {data.labels.shape[1]}"
        )


def _batches(dataset: BatchDataset | Batch, batch_size: int) -> Iterable[Batch]:
    if isinstance(dataset, Batch):
        starts = range(0, len(dataset), batch_size)
        return [dataset.slice(start, start + batch_size) for start in starts]
    return dataset.iter_batches(batch_size)
