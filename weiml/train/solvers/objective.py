"""What is minimised: a loss of which only values and gradient vectors are known, and penalties.

The penalties' part is computed where the vectors are; the loss knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from weiml.train.solvers.vectors import SolverVectors

__all__ = ["Loss", "Penalised", "Value"]


class Loss(Protocol):
    """A smooth function of a vector on the parameter server."""

    def evaluate(self, point: str) -> tuple[float, Sequence[str]]:
        """Return the value at the vector `point`, and the vectors whose sum is the gradient."""


class Value(NamedTuple):
    """The objective at a point."""

    smooth: float
    """Without the L1 penalty, the only part that has no gradient."""
    total: float


class Penalised:
    """``loss + l1 Σ scales |w| + l2 / 2 Σ scales w²``, `scales` a vector of zeros and ones."""

    def __init__(self, vectors: SolverVectors, loss: Loss, *, l1: float, l2: float) -> None:
        self.l1 = l1
        self.l2 = l2
        self.evaluations = 0
        self._vectors = vectors
        self._loss = loss
        vectors.create("scaled")

    def evaluate(self, point: str, gradient: str) -> Value:
        """Return the objective at `point`; write the gradient of its smooth part to `gradient`.

        The loss's vectors are added up in their order, in float64, and rounded once.
        """
        self.evaluations += 1
        loss, parts = self._loss.evaluate(point)
        vectors = self._vectors
        vectors.multiply("scales", point, "scaled")
        vectors.combine([1.0] * len(parts) + [self.l2], [*parts, "scaled"], gradient)
        squares = vectors.dot("scaled", point) if self.l2 else 0.0
        smooth = loss + self.l2 / 2 * squares
        return Value(smooth, smooth + self.l1 * vectors.total("scaled") if self.l1 else smooth)
