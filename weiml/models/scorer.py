"""What scores batches: networks and linear models with their rows, boosted trees; one loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from weiml.errors import DataError
from weiml.features import Batch, FeatureEncoder
from weiml.models.predictor import Predictor

__all__ = ["Scorer", "load_scorer"]

_TREES = "gbdt"


@runtime_checkable
class Scorer(Protocol):
    """A trained model that scores, whatever trained it. One caller at a time."""

    @property
    def name(self) -> str:
        """Of the model, as in ``weiml models``."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it predicts, one name a column of `score_tasks`."""

    @property
    def main_task(self) -> int:
        """The column of `score_tasks` that `score` gives."""

    @property
    def label_columns(self) -> tuple[int, ...]:
        """The column of the batch's labels that each task learned."""

    @property
    def encoder(self) -> FeatureEncoder:
        """The encoder that the model's batches were made by.

        Raises:
            DataError: the model was saved without one.
        """

    @property
    def snapshot(self) -> str:
        """Id of the saved model's content, 12 hexadecimal digits."""

    @property
    def sequence(self) -> int:
        """The parameter server's sequence number of what scores; 0 where no server moves it on."""

    @property
    def version(self) -> str:
        """``snapshot.sequence``: what the scores were made by."""

    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B,) probabilities of the main task; the batch's labels don't matter.

        Raises:
            DataError: the batch has other slots or dense columns than the model.
        """

    def score_tasks(self, batch: Batch) -> np.ndarray:
        """Return float32 (B, T) probabilities of all of `tasks`; see `score`."""


def load_scorer(folder: str | Path) -> Scorer:
    """Load a saved model for scoring: a `Predictor`, or a `weiml.models.trees.GBDT`.

    Raises:
        DataError: the folder is missing, damaged or of another format; names the file.
    """
    if _name_of(Path(folder)) != _TREES:
        return Predictor.load(folder)
    from weiml.models.trees import GBDT

    return GBDT.load(folder)


def _name_of(folder: Path) -> str | None:
    """Return the model's name, None where the loaders say better what is wrong."""
    try:
        manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return str(manifest["model"]["name"])
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder} is not a model folder: it has no model.json") from None
    except (OSError, ValueError, KeyError, TypeError):
        return None
