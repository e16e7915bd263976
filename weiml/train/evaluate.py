"""Evaluation of a model on a data set, with the predictor that serves it."""

from __future__ import annotations

import numpy as np

from weiml.data import BatchDataset
from weiml.features import Batch
from weiml.models import Predictor, evaluate_scores

__all__ = ["evaluate_model", "score_dataset"]

_BATCH_SIZE = 8192  # bounds the memory of pooled embeddings; scores do not depend on it


def score_dataset(
    predictor: Predictor, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> np.ndarray:
    """Return float32 (n,) probabilities in the order of the data."""
    scores = [predictor.score(batch) for batch in _batches(dataset, batch_size)]
    return np.concatenate(scores) if scores else np.empty(0, np.float32)


def evaluate_model(
    predictor: Predictor, dataset: BatchDataset | Batch, *, batch_size: int = _BATCH_SIZE
) -> tuple[dict[str, float], np.ndarray]:
    """Return (`weiml.models.evaluate_scores` by name, scores float32 (n,))."""
    scores = score_dataset(predictor, dataset, batch_size=batch_size)
    data = dataset if isinstance(dataset, Batch) else dataset.read()
    return evaluate_scores(data.labels[:, 0], scores, data.groups, data.weights), scores


def _batches(dataset: BatchDataset | Batch, batch_size: int) -> list[Batch]:
    if isinstance(dataset, Batch):
        starts = range(0, len(dataset), batch_size)
        return [dataset.slice(start, start + batch_size) for start in starts]
    return list(dataset.iter_batches(batch_size))
