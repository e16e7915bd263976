"""Scoring with a saved model: the same code in evaluation and in serving.

Rows sit in plain arrays behind one read-only index; deltas from a parameter server update them in
place. It knows no transport and no requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from weiml.errors import DataError
from weiml.features import Batch, FeatureEncoder
from weiml.models.base import Model, Rows
from weiml.models.calibration import FittedCalibration
from weiml.models.folder import ModelFolder, check_calibration
from weiml.ps import Delta, KeyIndex

__all__ = ["DENSE_VECTOR", "Predictor"]

DENSE_VECTOR = "dense"
"""Name of the parameter server's vector that carries a model's dense part in deltas."""


class Predictor:
    """A model with its rows, in process. Not thread-safe: one caller at a time.

    A key that no table holds counts as zeros, so an id never seen in training changes nothing.

    Args:
        model: with its dense part.
        tables: (keys uint64 (n,), weights float32 (n, dim)) by name.
        encoder: the one that the model's batches were made by.
        calibration: what scores are mapped by; deltas leave it as it is.
        snapshot: id of the saved model.
        sequence: of the parameter server, that the rows are as of.

    Raises:
        DataError: the calibration is of other tasks than the model.
    """

    def __init__(
        self,
        model: Model,
        tables: Mapping[str, tuple[np.ndarray, np.ndarray]],
        *,
        encoder: FeatureEncoder | None = None,
        calibration: FittedCalibration | None = None,
        snapshot: str = "unsaved",
        sequence: int = 0,
    ) -> None:
        check_calibration(calibration, model.tasks)
        self.model = model
        self.calibration = calibration
        """What scores are mapped by; None where they are the model's own."""
        self._encoder = encoder
        self._snapshot = snapshot
        self._sequence = sequence
        # Tables that are read by the same keys share an index.
        indexes = {family: KeyIndex() for family in model.families}
        self._indexes = {name: indexes[family] for family in indexes for name in family}
        self._weights = {
            config.name: np.zeros((0, config.dim), np.float32) for config in model.tables()
        }
        self._set_rows(tables)

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """Load what `save_model` wrote.

        Raises:
            DataError: the folder is missing, damaged or of another format; names the file.
        """
        saved = ModelFolder.open(folder)
        return cls(
            saved.model(),
            saved.tables(),
            encoder=saved.encoder(),
            calibration=saved.calibration(),
            snapshot=saved.snapshot,
            sequence=saved.sequence,
        )

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """See `Model.tasks`."""
        return self.model.tasks

    @property
    def main_task(self) -> int:
        """See `Model.main_task`."""
        return self.model.main_task

    @property
    def label_columns(self) -> tuple[int, ...]:
        """See `Model.label_columns`."""
        return self.model.label_columns

    @property
    def encoder(self) -> FeatureEncoder:
        """The encoder that the model's batches were made by.

        Raises:
            DataError: the model was saved without one.
        """
        if self._encoder is None:
            raise DataError("this model was saved without an encoder; pass one to save_model")
        return self._encoder

    @property
    def snapshot(self) -> str:
        """Id of the saved model's content, 12 hexadecimal digits."""
        return self._snapshot

    @property
    def sequence(self) -> int:
        """The parameter server's sequence number that the rows are as of."""
        return self._sequence

    @property
    def version(self) -> str:
        """``snapshot.sequence``: what the scores were made by."""
        return f"{self._snapshot}.{self._sequence}"

    @property
    def num_rows(self) -> int:
        """Distinct keys, over all tables that are looked up by the same."""
        distinct = {id(index): len(index) for index in self._indexes.values()}
        return sum(distinct.values())

    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B,) probabilities of the main task; the batch's labels don't matter.

        They are calibrated, if the model has a calibration.
        An example's score does not depend on the others in the batch, but for float32 rounding.

        Raises:
            DataError: the batch has other slots or dense columns than the model.
        """
        return np.ascontiguousarray(self.score_tasks(batch)[:, self.main_task])

    def score_tasks(self, batch: Batch) -> np.ndarray:
        """Return float32 (B, T) probabilities of all of ``model.tasks``; see `score`."""
        scores = self.model.scores(batch, self.rows(batch))
        return scores if self.calibration is None else self.calibration(scores)

    def rows(self, batch: Batch) -> dict[str, Rows]:
        """Return the rows of a batch's keys by table, as `Model.scores` takes them.

        They are views: they change with the next delta.
        """
        found: dict[tuple[int, int], np.ndarray] = {}  # tables with one index and keys share it
        rows = {}
        for name, keys in self.model.keys(batch).items():
            index = self._indexes[name]
            place = (id(index), id(keys))
            if place not in found:
                found[place] = index.find(keys)
            rows[name] = Rows(self._weights[name], found[place])
        return rows

    def apply_delta(self, delta: Delta) -> None:
        """Set the rows and the dense part that a delta brings; nothing changes if it does not fit.

        Rows that it says are gone count as zeros from then on.

        Whether a delta was missed in between is the caller's to know (`Delta.since`).

        Raises:
            DataError: a row or the vector has another length than the model's.
        """
        for name, (keys, weights) in delta.tables.items():
            own = self._weights.get(name)
            if own is not None and weights.shape != (len(keys), own.shape[1]):
                raise DataError(
                    f"table {name!r} has rows of {own.shape[1]}, the delta brings an array "
                    f"{weights.shape} for {len(keys)} keys; it is of another model"
                )
        dense = delta.vectors.get(DENSE_VECTOR)
        if dense is not None:
            self.model.set_dense_vector(dense)
        if delta.full:
            for weights in self._weights.values():
                weights[:] = 0
        for name, keys in delta.deleted.items():
            if name in self._weights:
                positions = self._indexes[name].find(keys)
                self._weights[name][positions[positions >= 0]] = 0
        self._set_rows(delta.tables)
        self._sequence = delta.sequence

    def _set_rows(self, tables: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        known = [(n, rows) for n, rows in tables.items() if n in self._weights]
        positions = {name: self._indexes[name].find_or_insert(keys) for name, (keys, _) in known}
        for name, own in self._weights.items():
            index = self._indexes[name]
            if len(own) < len(index):
                grown = np.zeros((index.row_capacity, own.shape[1]), np.float32)
                grown[: len(own)] = own
                self._weights[name] = grown
        for name, (_, weights) in known:
            self._weights[name][positions[name]] = weights
