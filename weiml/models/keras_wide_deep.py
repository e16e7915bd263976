"""Wide & Deep in Keras on TensorFlow, trained in one process on the same batches.

TensorFlow has no parameter server here: keys are hashed once more, into tables of a given size, and
the first keys of each slot fill fixed columns. TensorFlow is imported when a model is made.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.base import Columns
from weiml.models.metrics import log_loss

__all__ = ["KerasWideDeep", "KerasWideDeepConfig", "pad"]

_MANIFEST = "keras.json"
_WEIGHTS = "model.weights.h5"
_SCORE_BATCH = 4096  # bounds memory; scores do not depend on it


@dataclass(frozen=True, kw_only=True)
class KerasWideDeepConfig:
    """Shape and training of the Keras model."""

    num_buckets: int = 1 << 16
    """Rows of the tables; keys share a row when they are equal modulo this number."""
    keys_per_slot: int = 8
    """Keys of a slot beyond this many are dropped."""
    embedding_dim: int = 16
    hidden: tuple[int, ...] = (256, 128, 64)
    lr: float = 1e-3
    """Adam's learning rate."""
    epochs: int = 3
    batch_size: int = 1024
    seed: int = 0
    early_stopping_patience: int = 1
    """Epochs without a better validation log-loss after which training stops; 0 never stops."""

    def __post_init__(self) -> None:
        for knob in ("num_buckets", "keys_per_slot", "embedding_dim", "epochs", "batch_size"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        if not self.lr > 0:
            raise ConfigError(f"lr must be above 0, got {self.lr}")


class Inputs(NamedTuple):
    """A batch in Keras's shape; L columns, `keys_per_slot` for each slot."""

    buckets: np.ndarray
    """int32 (B, L)."""
    shares: np.ndarray
    """float32 (B, L): the key's value over the slot's number of keys; 0 in empty columns."""
    dense: np.ndarray
    """float32 (B, D)."""


def pad(batch: Batch, config: KerasWideDeepConfig) -> Inputs:
    """Bring a batch into fixed columns."""
    B, S, width = len(batch), len(batch.slots), config.keys_per_slot
    lengths = np.diff(batch.offsets)
    cells = np.repeat(np.arange(B * S), lengths)
    places = np.arange(batch.keys.size) - batch.offsets[cells]
    kept = places < width
    shares = 1.0 / np.minimum(lengths, width)[cells[kept]]
    if batch.values is not None:
        shares = shares * batch.values[kept]
    buckets = np.zeros((B * S, width), np.int32)
    weights = np.zeros((B * S, width), np.float32)
    buckets[cells[kept], places[kept]] = batch.keys[kept] % np.uint64(config.num_buckets)
    weights[cells[kept], places[kept]] = shares
    return Inputs(buckets.reshape(B, -1), weights.reshape(B, -1), np.array(batch.dense))


class KerasWideDeep:
    """One Keras model. Not thread-safe."""

    def __init__(self, config: KerasWideDeepConfig, columns: Columns) -> None:
        self.config = config
        self.columns = columns
        self._model = _build(config, columns)

    def fit(
        self,
        epochs: Callable[[int], Iterable[Batch]],
        validation: Batch | None = None,
        *,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> list[dict[str, float]]:
        """Train, and keep the epoch of the best validation log-loss (the last without a set).

        Args:
            epochs: the training batches of an epoch, by its number from 0.
            validation: scored after each epoch.
            progress: called after each epoch with its number from 1, the number of epochs and the
                mean training log-loss.

        Returns:
            One entry an epoch: epoch, train_loss and, with a validation set, validation_log_loss.
        """
        history: list[dict[str, float]] = []
        best, best_weights = 0, self._model.get_weights()
        for epoch in range(self.config.epochs):
            entry = {"epoch": epoch + 1, "train_loss": self._train(epochs(epoch))}
            if validation is not None:
                entry["validation_log_loss"] = log_loss(validation.labels, self.score(validation))
            history.append(entry)
            if progress is not None:
                progress(epoch + 1, self.config.epochs, entry["train_loss"])
            value = entry.get("validation_log_loss", -epoch)
            if not epoch or value < history[best].get("validation_log_loss", -best):
                best, best_weights = epoch, self._model.get_weights()
            patience = self.config.early_stopping_patience
            if patience and epoch - best >= patience:
                break
        self._model.set_weights(best_weights)
        return history

    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B,) probabilities."""
        self._check(batch)
        parts = [
            np.asarray(self._model.predict_on_batch(pad(part, self.config)._asdict()))[:, 0]
            for part in (
                batch.slice(start, start + _SCORE_BATCH)
                for start in range(0, len(batch), _SCORE_BATCH)
            )
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def save(self, folder: str | Path) -> None:
        """Save to a new folder, whole or not at all: JSON and a file of weights, no code."""
        target = Path(folder)
        if target.is_dir() and any(target.iterdir()):
            raise DataError(f"{target} is not empty: models are saved to a new folder")
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.writing")
        aside.mkdir(parents=True)
        try:
            manifest = {"config": to_mapping(self.config), "columns": to_mapping(self.columns)}
            (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            self._model.save_weights(aside / _WEIGHTS)
            os.rename(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> KerasWideDeep:
        """Load what `save` wrote.

        Raises:
            DataError: the folder holds no Keras model.
        """
        path = Path(folder)
        try:
            manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
            config = from_mapping(KerasWideDeepConfig, manifest["config"], where=str(path))
            columns = from_mapping(Columns, manifest["columns"], where=str(path))
        except FileNotFoundError:
            raise DataError(f"{path} is not a Keras model: it has no {_MANIFEST}") from None
        except (json.JSONDecodeError, KeyError) as error:
            raise DataError(f"{path / _MANIFEST} is damaged: {error!r}") from None
        model = cls(config, columns)
        model._model.load_weights(path / _WEIGHTS)
        return model

    def _train(self, batches: Iterable[Batch]) -> float:
        loss = weight = 0.0
        for batch in batches:
            self._check(batch)
            inputs = pad(batch, self.config)._asdict()
            mean = self._model.train_on_batch(inputs, batch.labels[:, :1], batch.weights)
            self._model.reset_metrics()
            total = float(batch.weights.sum())
            loss += float(mean) * total
            weight += total
        return loss / weight if weight else float("nan")

    def _check(self, batch: Batch) -> None:
        if (batch.slots, batch.dense_names) != (self.columns.slots, self.columns.dense_names):
            raise DataError(
                f"the Keras model was made for slots {self.columns.slots} and dense columns "
                f"{self.columns.dense_names}, the batch has {batch.slots} and {batch.dense_names}"
            )


def _build(config: KerasWideDeepConfig, columns: Columns) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    slots, width = len(columns.slots), config.keys_per_slot
    length = slots * width
    seed = iter(range(config.seed * 1000, config.seed * 1000 + 1000))
    buckets = keras.Input((length,), dtype="int32", name="buckets")
    shares = keras.Input((length,), name="shares")
    dense = keras.Input((len(columns.dense_names),), name="dense")
    normal = keras.initializers.RandomNormal(stddev=0.01, seed=next(seed))
    factors = keras.layers.Reshape((length, 1))(shares)
    rows = keras.layers.Embedding(
        config.num_buckets, config.embedding_dim, embeddings_initializer=normal
    )(buckets)
    rows = keras.layers.Reshape((slots, width, config.embedding_dim))(
        keras.layers.Multiply()([rows, factors])
    )
    x = keras.layers.Flatten()(keras.ops.sum(rows, axis=2))
    x = keras.layers.Concatenate()([x, dense])
    for i, size in enumerate(config.hidden):
        he = keras.initializers.HeUniform(seed=next(seed))
        layer = keras.layers.Dense(
            size, activation="relu", kernel_initializer=he, name=f"hidden_{i}"
        )
        x = layer(x)
    glorot = keras.initializers.GlorotUniform(seed=next(seed))
    deep = keras.layers.Dense(1, kernel_initializer=glorot, name="deep")(x)
    linear = keras.layers.Embedding(config.num_buckets, 1, embeddings_initializer="zeros")(buckets)
    wide = keras.ops.sum(keras.layers.Multiply()([linear, factors]), axis=1)
    output = keras.layers.Activation("sigmoid")(keras.layers.Add()([deep, wide]))
    model = keras.Model({"buckets": buckets, "shares": shares, "dense": dense}, output)
    model.compile(keras.optimizers.Adam(config.lr), keras.losses.BinaryCrossentropy())
    return model
