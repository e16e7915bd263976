"""Models whose network is a Keras one; tables, pooling, losses and groups are those of all models.

    logits = network({flat, linear, sequences, mask})

A subclass builds any Keras model. Rows live on the parameter server; the network's variables are
averaged over the workers as one vector, like a torch network's.
"""

from __future__ import annotations

import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from weiml.errors import DataError
from weiml.features import Batch
from weiml.models.base import Columns
from weiml.models.deep.contract import Arrays, Gradients
from weiml.models.deep.shape import InputShape
from weiml.models.deep.sparse import SparseModel
from weiml.models.keras.network import KerasNetwork, input_shapes
from weiml.models.keras.optimizers import FlatOptimizer
from weiml.models.keras.runtime import building, load_frameworks

__all__ = ["KerasModel"]


class KerasModel(SparseModel):
    """A Keras network over rows of the parameter server. Subclasses build the network."""

    network: KerasNetwork

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        frameworks = load_frameworks(self.threads)
        settings = self.config
        optimizer = FlatOptimizer(
            settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            clip_norm=settings.clip_norm,
        )
        with building(frameworks, self.seed, settings.precision):
            self.network = KerasNetwork(
                frameworks,
                self.build(self.shape),
                input_shapes(self.shape, linear=self.has_linear),
                optimizer=optimizer,
                draws=self.seed * 1_000_003 + self.rank + 1,
                device=self.device,
            )

    @abstractmethod
    def build(self, shape: InputShape) -> Any:
        """Return the network, a keras.Model; `inputs` makes its inputs.

        It maps a dict {flat (B, S·d + D); linear (B,) if `has_linear`; sequences (B, Q, L, d) and
        mask (B, Q, L) if the configuration names sequences} to logits (B,) or (B, T). Losses that
        its layers add, such as regularizers, count beside the mean loss. Initializers without a
        seed draw from the model's. Batch statistics are this worker's own.
        """

    def inputs(self) -> dict[str, Any]:
        """Return a keras.Input for each input, for a functional model."""
        import keras

        return {
            name: keras.Input(shape, dtype=dtype, name=name)
            for name, (shape, dtype) in input_shapes(self.shape, linear=self.has_linear).items()
        }

    def export_saved_model(self, folder: str | Path) -> Path:
        """Write the network as TensorFlow's SavedModel, whole or not at all.

        Its signature ``serving_default`` takes the network's inputs and gives logits.

        Raises:
            DataError: the folder is not empty.
        """
        return _written(Path(folder), lambda aside: self.network.module.export(aside, verbose=0))

    def export_keras(self, file: str | Path) -> Path:
        """Write the network as a ``.keras`` file: JSON and arrays, no pickle.

        Raises:
            DataError: the file exists, or its name does not end in .keras.
        """
        if Path(file).suffix != ".keras":
            raise DataError(f"{file}: the name of a Keras file must end in .keras")
        return _written(Path(file), self.network.module.save)

    def _logits(self, arrays: Arrays) -> np.ndarray:
        return self.network.logits(arrays)

    def _learn(self, batch: Batch, arrays: Arrays, total: float) -> Gradients:
        logits, passed = self.network.forward(arrays, training=total > 0)
        loss, gradients = self._loss(batch, logits)
        return Gradients(loss, *self.network.backward(passed, gradients, total))


def _written(target: Path, write: Callable[[str], Any]) -> Path:
    """Write aside and rename."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise DataError(f"{target} exists already: networks are exported to a new place")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{uuid.uuid4().hex[:12]}.{target.name}")
    try:
        write(str(aside))
        os.rename(aside, target)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        aside.unlink(missing_ok=True)
    return target
