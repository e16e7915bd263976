"""Evaluation of a model on a data set, with the predictor that serves it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from weiml.data import BatchDataset
from weiml.errors import DataError
from weiml.features import Batch
from weiml.models import Model, Predictor, evaluate_scores
from weiml.train.evaluate_classes import evaluate_class_model

__all__ = ["evaluate_model", "score_dataset"]

_BATCH_SIZE = 8192  # bounds the memory of pooled embeddings; scores do not depend on it


def score_dataset(
    predictor: Predictor, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> np.ndarray:
    """Return float32 (n,) probabilities of the main task in the order of the data."""
    scores = [predictor.score(batch) for batch in _batches(dataset, batch_size)]
    return np.concatenate(scores) if scores else np.empty(0, np.float32)


def evaluate_model(
    predictor: Predictor, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> tuple[dict[str, float], np.ndarray]:
    """Return (`weiml.models.evaluate_scores` by name, main task's scores float32 (n,)).

    The names alone (``auc``) are the main task's. Of a model of several tasks there are those of
    each too, the task's name in front: ``click_auc``, ``convert_auc``. An example whose label of a
    task is missing (NaN) is left out of that task's metrics.

    Of a model of classes they are `weiml.models.evaluate_classes`, and the scores are the first
    class's; see `evaluate_class_model` for all.

    Raises:
        DataError: the data has no label for a task.
    """
    model = predictor.model
    if model.scores_kind == "classes":
        classes, scores = evaluate_class_model(predictor, dataset)
        return classes, np.ascontiguousarray(scores[:, model.main_task])
    scored = [predictor.score_tasks(batch) for batch in _batches(dataset, batch_size)]
    scores = np.concatenate(scored) if scored else np.empty((0, len(model.tasks)), np.float32)
    data = dataset if isinstance(dataset, Batch) else dataset.read()
    _check_labels(model, data)
    found = [
        _evaluate_task(data, column, scores[:, task])
        for task, column in enumerate(model.label_columns)
    ]
    metrics = dict(found[model.main_task])
    if len(model.tasks) > 1:
        for task, own in zip(model.tasks, found, strict=True):
            metrics |= {f"{task}_{name}": value for name, value in own.items()}
    return metrics, np.ascontiguousarray(scores[:, model.main_task])


def _evaluate_task(data: Batch, column: int, scores: np.ndarray) -> dict[str, float]:
    """Return a task's metrics over the examples that have its label."""
    labels = data.labels[:, column] if len(data) else np.empty(0, np.float32)
    known = ~np.isnan(labels)
    if known.all():
        return evaluate_scores(labels, scores, data.groups, data.weights)
    return evaluate_scores(labels[known], scores[known], data.groups[known], data.weights[known])


def _check_labels(model: Model, data: Batch) -> None:
    wanted = max(model.label_columns) + 1
    if len(data) and data.labels.shape[1] < wanted:  # no examples, no telling how many labels
        raise DataError(
            f"model {model.name!r} with tasks {model.tasks} is evaluated by label columns "
            f"{model.label_columns}, the data has {data.labels.shape[1]}"
        )


def _batches(dataset: BatchDataset | Batch, batch_size: int) -> Iterable[Batch]:
    if isinstance(dataset, Batch):
        starts = range(0, len(dataset), batch_size)
        return [dataset.slice(start, start + batch_size) for start in starts]
    return dataset.iter_batches(batch_size)
