"""Evaluation of a model of classes on a data set, with the predictor that serves it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from weiml.data import BatchDataset
from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models import Predictor, evaluate_classes

__all__ = ["evaluate_class_model"]

_BATCH_SIZE = 1024  # bounds the memory of activations; scores do not depend on it


def evaluate_class_model(
    predictor: Predictor, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> tuple[dict[str, float], np.ndarray]:
    """Return (`weiml.models.evaluate_classes` by name, scores float32 (n, K)).

    Raises:
        ConfigError: the model's scores are not those of classes.
        DataError: the examples do not fit the model, or a label is no class's number.
    """
    model = predictor.model
    if model.scores_kind != "classes":
        raise ConfigError(
            f"model {model.name!r} scores tasks {model.tasks}, not classes: use evaluate_model"
        )
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for batch in _batches(dataset, batch_size):  # at no time are all images in memory
        scores = predictor.score_tasks(batch)
        found.append((batch.labels[:, 0].copy(), scores, batch.weights.copy()))
    if not found:
        nothing = np.empty(0, np.float32)
        found = [(nothing, np.empty((0, len(model.tasks)), np.float32), nothing)]
    labels, scores, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return evaluate_classes(labels, scores, weights), scores


def _batches(dataset: BatchDataset | Batch, batch_size: int) -> Iterator[Batch]:
    if isinstance(dataset, BatchDataset):
        return dataset.iter_batches(batch_size)
    starts = range(0, len(dataset), batch_size)
    return (dataset.slice(start, start + batch_size) for start in starts)
