"""Learning from a stream: a saved model goes on, step by step, on a parameter server.

Sparse rows are pushed as in training; the dense part is a vector of the server, so that deltas
carry all of the model to serving. It knows neither the stream nor who serves.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from weiml.errors import DataError
from weiml.features import Batch
from weiml.models import (
    DENSE_VECTOR,
    MetricsAccumulator,
    Model,
    ModelFolder,
    Rows,
    StepResult,
    evaluate_scores,
    pulled,
    save_model,
)
from weiml.ps import ParameterServer, unique_keys

__all__ = ["OnlineTrainer", "ProgressiveMetrics"]


class OnlineTrainer:
    """The learner beside a parameter server, outside its clock: pushes act at once.

    One a server: making it replaces what the server holds by the saved model. Not thread-safe.

    Args:
        folder: a saved model; its rows replace what the server holds.
        server: an open parameter server of either transport; it stays open.
        dense_lr_scale: factor on the dense part's learning rate. A stream comes in small batches
            that are all alike (one evening, a few users), so the network moves slower than in
            training; the rows, which such batches are about, move as before.

    Raises:
        ConfigError: dense_lr_scale is negative.
        DataError: the folder holds no model, or a damaged one.
    """

    def __init__(
        self, folder: str | Path, server: ParameterServer, *, dense_lr_scale: float = 0.1
    ) -> None:
        saved = ModelFolder.open(folder)
        self.model: Model = saved.model(for_training=True)
        self.model.scale_dense_lr(dense_lr_scale)
        self.version = saved.version
        """Of the model that learning began with."""
        self.calibration = saved.calibration()
        """What scores are mapped by; learning leaves it as it is."""
        self._encoder = saved.encoder()
        self._server = server
        server.load(str(saved.server_state))
        dense = self.model.dense_vector()
        if dense.size:
            server.create_vector(DENSE_VECTOR, dense)
        self._has_dense = bool(dense.size)
        self._client = server.client()

    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B,) probabilities by the server's rows as they are now.

        Unlike a `Predictor`, which gives zeros to keys without a row, this sees the initial values
        that their rows would start with: for embeddings, noise of the configured scale.
        """
        self._pull_dense()
        rows: dict[str, Rows] = {}
        for name, keys in self.model.keys(batch).items():
            distinct, positions = unique_keys(keys)
            weights = pulled(self._client, self._client.pull(name, distinct))
            rows[name] = Rows(weights, positions)
        scores = self.model.scores(batch, rows)
        if self.calibration is not None:
            scores = self.calibration(scores)
        return np.ascontiguousarray(scores[:, self.model.main_task])

    def learn(self, batch: Batch) -> dict[str, float]:
        """Take one step and wait until the server has it.

        Returns:
            examples; loss, the mean log-loss before the step's update; sequence, the server's
            number of applied pushes after it.

        Raises:
            DataError: the batch is empty or has other columns than the model.
        """
        if not len(batch):
            raise DataError("cannot learn from an empty batch")
        before = self._pull_dense()
        result = _alone(self.model.step(self._client, batch))
        if before is not None:
            self._client.push_vector(DENSE_VECTOR, self.model.dense_vector() - before)
        self._client.finish()
        return {
            "examples": float(result.examples),
            "loss": result.loss / result.weight if result.weight else float("nan"),
            "sequence": float(self._server.sequence),
        }

    def save(self, folder: str | Path, *, about: dict[str, Any] | None = None) -> ModelFolder:
        """Save the model as it is now to a new folder."""
        self._pull_dense()
        return save_model(
            folder,
            self.model,
            self._server,
            encoder=self._encoder,
            calibration=self.calibration,
            about=about,
        )

    def _pull_dense(self) -> np.ndarray | None:
        if not self._has_dense:
            return None
        vector = pulled(self._client, self._client.pull_vector(DENSE_VECTOR))
        self.model.set_dense_vector(vector)
        return vector


class ProgressiveMetrics:
    """Metrics of predictions made before their labels were seen, over a stream.

    (Dawid, "Present position and potential developments: the prequential approach", 1984.)
    """

    def __init__(self) -> None:
        self._labels: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []

    def add(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """Add labels (n,) or (n, 1) and the scores (n,) that were given before them."""
        flat = np.asarray(labels, np.float32).reshape(-1)
        if len(flat) != len(scores):
            raise DataError(f"{len(flat)} labels cannot go with {len(scores)} scores")
        self._labels.append(flat)
        self._scores.append(np.asarray(scores))

    @property
    def examples(self) -> int:
        """How many were added."""
        return sum(map(len, self._labels))

    def summary(self) -> dict[str, float]:
        """Return `weiml.models.evaluate_scores` over everything so far, without groups.

        NaN before both classes came.
        """
        labels, scores = self._joined()
        return evaluate_scores(labels, scores)

    def curve(self, points: int = 20) -> list[dict[str, float]]:
        """Return `summary` after each of `points` equal parts of the stream so far."""
        labels, scores = self._joined()
        ends = np.unique(np.linspace(0, len(labels), points + 1).astype(int))
        seen, curve = MetricsAccumulator(), []
        for start, end in itertools.pairwise(ends):
            seen.add(labels[start:end], scores[start:end])
            curve.append(seen.result())
        return curve

    def _joined(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._labels:
            return np.empty(0, np.float32), np.empty(0, np.float32)
        return np.concatenate(self._labels), np.concatenate(self._scores)


def _alone(step: Any) -> StepResult:
    """Drive a step without other workers: the mean of one worker's gradients is the gradients."""
    try:
        gradient = next(step)
        while True:
            gradient = step.send(gradient)
    except StopIteration as stop:
        result: StepResult = stop.value
        return result
