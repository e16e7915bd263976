"""Isotonic calibration: any map that does not fall, averaged into a few points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from weiml.errors import ConfigError
from weiml.models.calibration.base import Calibration, FittedCalibration
from weiml.models.calibration.pooling import pool_adjacent_violators

__all__ = ["FittedIsotonic", "Isotonic"]


class FittedIsotonic(FittedCalibration):
    """Linear interpolation between points; constant beyond the outermost.

    Args:
        scores: float64 (points,), rising.
        probabilities: float64 (points,), not falling.
    """

    name: ClassVar[str] = "isotonic"

    def __init__(self, scores: np.ndarray, probabilities: np.ndarray) -> None:
        self.scores = np.asarray(scores, np.float64)
        self.probabilities = np.asarray(probabilities, np.float64)
        if not (
            self.scores.ndim == 1
            and self.scores.shape == self.probabilities.shape
            and len(self.scores)
            and (np.diff(self.scores) > 0).all()
            and (np.diff(self.probabilities) >= 0).all()
        ):
            raise ValueError("scores must rise and probabilities not fall, equally many")

    def _map(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, self.scores, self.probabilities)

    def state(self) -> dict[str, Any]:
        """Return the points."""
        return {"scores": self.scores.tolist(), "probabilities": self.probabilities.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make it of what `state` gave."""
        return cls(state["scores"], state["probabilities"])


@dataclass(frozen=True, kw_only=True)
class Isotonic(Calibration):
    """The non-falling map with the least squares, and so the least cross-entropy.

    Equal scores are averaged first, neighbours that fall are pooled. The steps are then averaged,
    scores and probabilities, in `num_bins` bins, and between these points the map is a straight
    line: scores that a step would tie keep their order, and what is served is small. One factor
    then brings the mean to the share of positives. Few examples in a bin fit noise; some hundred
    positives a bin are enough.

    Ayer et al., Annals of Mathematical Statistics 26, 1955; Zadrozny and Elkan, "Transforming
    Classifier Scores into Accurate Multiclass Probability Estimates", KDD 2002.
    """

    name: Literal["isotonic"] = "isotonic"
    num_bins: int = 25
    """0 keeps all steps, each from its first score to its last."""
    bins: Literal["mass", "width"] = "mass"
    """Of equal weight of examples, or of equal width between the least and the largest score."""

    def __post_init__(self) -> None:
        if self.num_bins < 0:
            raise ConfigError(
                f"calibration isotonic: num_bins must be 0 (all steps) or more, got {self.num_bins}"
            )

    def _fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedIsotonic:
        self._need(labels, both=False)
        distinct, places = np.unique(scores, return_inverse=True)
        mass = np.bincount(places, weights)
        rates = np.clip(np.bincount(places, weights * labels) / mass, 0.0, 1.0)
        fitted = pool_adjacent_violators(rates, mass)
        if not self.num_bins:
            return _all_steps(distinct, fitted)
        bins = self._bins(distinct, mass)
        total = np.bincount(bins, mass, self.num_bins)
        kept = total > 0
        x = np.bincount(bins, mass * distinct, self.num_bins)[kept] / total[kept]
        y = np.bincount(bins, mass * fitted, self.num_bins)[kept] / total[kept]
        # Lines between means miss the bends and the ends; one factor makes the mean right again.
        mean = mass @ np.interp(distinct, x, y)
        y = np.minimum(y * ((mass @ fitted) / mean if mean > 0 else 1.0), 1.0)
        return FittedIsotonic(x, np.maximum.accumulate(y))  # means may round below the last one's

    def _bins(self, scores: np.ndarray, mass: np.ndarray) -> np.ndarray:
        if self.bins == "mass":
            shares = (np.cumsum(mass) - mass / 2) / mass.sum()
        else:
            width = scores[-1] - scores[0]
            shares = (scores - scores[0]) / (width if width > 0 else 1.0)
        return np.minimum(shares * self.num_bins, self.num_bins - 1).astype(np.int64)


def _all_steps(scores: np.ndarray, fitted: np.ndarray) -> FittedIsotonic:
    """Keep the ends of each step."""
    changes = np.flatnonzero(np.diff(fitted))
    ends = np.unique(np.concatenate([[0], changes, changes + 1, [len(scores) - 1]]))
    return FittedIsotonic(scores[ends], fitted[ends])
