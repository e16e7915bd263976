"""The contract of a calibration: a map from scores to true probabilities, fitted on held-out data.

A `Calibration` says how (configuration); fitting it gives a `FittedCalibration`, a function of
scores that keeps their order, saved as plain JSON.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from weiml.errors import DataError

__all__ = ["Calibration", "FittedCalibration", "TaskCalibrations", "probabilities_of"]


class FittedCalibration(abc.ABC):
    """A map of probabilities. Immutable, so thread-safe; picklable."""

    name: ClassVar[str]
    """Of the calibration that it is a result of."""

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32, of the shape of `scores`.

        Raises:
            DataError: a score is no probability.
        """
        p = probabilities_of(scores)
        return self._map(p.reshape(-1)).astype(np.float32).reshape(p.shape)

    @abc.abstractmethod
    def _map(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float64 (n,) of checked ones."""

    @abc.abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what was fitted as plain lists and numbers."""

    @classmethod
    @abc.abstractmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make it of what `state` gave.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of another type.
        """

    def to_mapping(self) -> dict[str, Any]:
        """Return all of it fit for JSON; `fitted_from_mapping` reads it."""
        return {"name": self.name, "state": self.state()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedCalibration) and self.to_mapping() == other.to_mapping()

    def __hash__(self) -> int:
        return hash(self.name)


class TaskCalibrations(FittedCalibration):
    """One fitted calibration a task, for scores (B, T)."""

    name: ClassVar[str] = "tasks"

    def __init__(self, tasks: tuple[FittedCalibration, ...]) -> None:
        self.tasks = tasks
        """In the order of the columns."""

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32 (B, T).

        Raises:
            DataError: there are not T columns, or a score is no probability.
        """
        if np.ndim(scores) != 2 or np.shape(scores)[1] != len(self.tasks):
            raise DataError(
                f"calibrations of {len(self.tasks)} tasks need scores (n, {len(self.tasks)}), "
                f"got {np.shape(scores)}"
            )
        out = np.empty(np.shape(scores), np.float32)
        for t, fitted in enumerate(self.tasks):
            out[:, t] = fitted(scores[:, t])
        return out

    def _map(self, scores: np.ndarray) -> np.ndarray:
        return scores

    def state(self) -> dict[str, Any]:
        """Return the mappings of all tasks."""
        return {"tasks": [fitted.to_mapping() for fitted in self.tasks]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make it of what `state` gave."""
        from weiml.models.calibration.registry import fitted_from_mapping

        return cls(tuple(fitted_from_mapping(task) for task in state["tasks"]))


class Calibration(abc.ABC):
    """How to calibrate. Instances are frozen keyword-only dataclasses of parameters."""

    name: str
    """A field of each calibration, ``Literal["..."]``: what configuration files call it."""

    def fit(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> FittedCalibration:
        """Fit on examples that the model was not trained on.

        Args:
            scores: probabilities (n,), or (n, T) to fit each task by itself.
            labels: of as many numbers, in [0, 1]; NaN is missing and left out.
            weights: of examples (n,), or (n, T); None counts as ones.

        Raises:
            DataError: a shape or value does not fit, or there is too little to fit on.
        """
        s, y = np.asarray(scores), np.asarray(labels)
        if s.size != y.size or (s.ndim == 2 and s.shape != y.shape):
            raise DataError(f"labels must fit scores {s.shape}, got {y.shape}")
        if s.ndim < 2:
            return self._fit_one(s, y, weights)
        if weights is not None and np.shape(weights) not in (s.shape[:1], s.shape):
            raise DataError(
                f"weights must be {s.shape[:1]} or {s.shape}, as scores, got {np.shape(weights)}"
            )
        own = None if weights is None else np.broadcast_to(np.asarray(weights).T, s.T.shape)
        return TaskCalibrations(
            tuple(
                self._fit_one(s[:, t], y[:, t], None if own is None else own[t])
                for t in range(s.shape[1])
            )
        )

    def _fit_one(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
    ) -> FittedCalibration:
        s, y = probabilities_of(scores).reshape(-1), np.asarray(labels, np.float64).reshape(-1)
        w = np.ones(len(s)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
        if len(w) != len(s):
            raise DataError(f"weights must be as long as scores ({len(s)}), got {len(w)}")
        if not ((w >= 0) & np.isfinite(w)).all():
            raise DataError("weights must not be negative, and finite")
        kept = ~np.isnan(y) & (w > 0)
        s, y, w = s[kept], y[kept], w[kept]
        if ((y < 0) | (y > 1)).any():
            raise DataError("labels must lie in [0, 1], or be NaN where they are missing")
        return self._fit(s, y, w)

    @abc.abstractmethod
    def _fit(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> FittedCalibration:
        """Fit on checked float64 (n,), all of weight above 0."""

    def _need(self, labels: np.ndarray, *, both: bool) -> None:
        """Raise DataError unless there are examples, of both classes if asked for."""
        if not len(labels):
            raise DataError(f"calibration {self.name} has no examples to fit on")
        if both and (labels.max() == 0 or labels.min() == 1):
            raise DataError(
                f"calibration {self.name} needs both classes, but all {len(labels)} labels are "
                f"{labels[0]:g}; fit on more examples"
            )


def probabilities_of(scores: np.ndarray) -> np.ndarray:
    """Return scores as float64; raise DataError unless all lie in [0, 1]."""
    p = np.asarray(scores, np.float64)
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise DataError(
            f"scores must be probabilities in [0, 1], got {p[wrong][0]:g} "
            f"at position {int(np.flatnonzero(wrong)[0])}"
        )
    return p
