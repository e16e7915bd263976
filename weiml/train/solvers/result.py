"""What a solver found, and how it becomes a logistic regression that serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weiml.config import to_mapping
from weiml.features import FeatureEncoder
from weiml.models import Columns, LogisticRegression, ModelFolder, Predictor, save_model
from weiml.ps import FTRL, EmbeddedParameterServer
from weiml.train.solvers.config import SolverConfig
from weiml.train.solvers.minimise import Iteration, StopReason

__all__ = ["SolverResult", "ftrl_state"]


@dataclass(frozen=True, kw_only=True)
class SolverResult:
    """The weights at the end of a run."""

    config: SolverConfig
    reason: StopReason
    iterations: list[Iteration]
    """From the start (iteration 0) on, those before an interruption too."""
    columns: Columns
    keys: np.ndarray
    """uint64 (P,): the bias, the dense columns, then the examples' keys, ascending."""
    weights: np.ndarray
    """float32 (P,)."""
    squares: np.ndarray
    """float64 (P,): the sum of squared gradients of the examples at these weights."""
    encoder: FeatureEncoder | None = field(default=None, repr=False)

    @property
    def objective(self) -> float:
        """The objective at the end."""
        return self.iterations[-1].objective

    def model(self) -> LogisticRegression:
        """Return the model, without its rows."""
        return LogisticRegression(self.config.lr, self.columns)

    def predictor(self) -> Predictor:
        """Return a predictor of exactly these weights.

        After ``loss = "squared_hinge"`` its scores are ``sigmoid(margin)``: a ranking, not
        probabilities.
        """
        rows = {table.name: self._rows() for table in self.model().tables()}
        return Predictor(self.model(), rows, encoder=self.encoder)

    def save(self, folder: str | Path, *, about: dict[str, Any] | None = None) -> ModelFolder:
        """Save a model of weights other than 0 to a new folder; see `weiml.models.save_model`.

        Its rows are FTRL's sums (`ftrl_state`), whose weights are these to float32's last digits,
        so that the model goes on learning online.

        Raises:
            DataError: the folder is not empty.
        """
        model = self.model()
        keys, weights = self._rows()
        state = ftrl_state(weights[:, 0], self.squares[self.weights != 0], self.config.lr.optimizer)
        facts: dict[str, Any] = {
            "config": to_mapping(self.config),
            "stopped": self.reason.name.lower(),
            "objective": self.objective,
            "iterations": self.iterations[-1].iteration,
        }
        with EmbeddedParameterServer() as server:
            (table,) = model.tables()
            server.create_table(table)
            client = server.client()
            client.wait(client.push(table.name, keys, state, what="differences"))
            return save_model(
                folder, model, server, encoder=self.encoder, about=facts | (about or {})
            )

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        kept = self.weights != 0
        return self.keys[kept], self.weights[kept, None]


def ftrl_state(weights: np.ndarray, squares: np.ndarray, optimizer: FTRL) -> np.ndarray:
    """Return rows (z, n), float32 (k, 2), that stand for `weights` other than 0.

    n is the sum of squared gradients, as if FTRL had seen every example at these weights: its
    steps go on small. z follows from the weight, ``z = -w ((β + √n) / α + λ₂) - sign(w) λ₁``.
    """
    n = squares.astype(np.float32)
    rate = (optimizer.beta + np.sqrt(n.astype(np.float64))) / optimizer.alpha + optimizer.l2
    z = -weights.astype(np.float64) * rate - np.sign(weights) * optimizer.l1
    return np.column_stack([z.astype(np.float32), n])
