"""The best that any model can reach where the labels' true probabilities are known."""

from __future__ import annotations

import numpy as np

from weiml.errors import DataError

__all__ = ["BestScores"]

_BINS = 1 << 16


class BestScores:
    """Counts the true probabilities p of examples, block by block. Mergeable; not thread-safe.

    The expected log-loss of a model that answers p is the mean entropy of p. Its expected AUC is
    the share of pairs in the right order when each example counts as p clicks and 1 − p others:
    here up to the resolution of 2¹⁶ bins of p, so to about 10⁻⁵.
    """

    def __init__(self) -> None:
        self.examples = 0
        self._entropy = 0.0
        self._clicks = np.zeros(_BINS)
        self._others = np.zeros(_BINS)

    def add(self, probability: np.ndarray) -> None:
        """Take in true probabilities, float64 ``(n,)`` between 0 and 1."""
        p = np.clip(probability, 1e-300, 1.0)
        q = np.clip(1.0 - probability, 1e-300, 1.0)
        self._entropy -= float(np.sum(p * np.log(p) + q * np.log(q)))
        bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
        self._clicks += np.bincount(bins, probability, _BINS)
        self._others += np.bincount(bins, 1.0 - probability, _BINS)
        self.examples += probability.size

    def merge(self, other: BestScores) -> None:
        """Take in what another has counted."""
        self.examples += other.examples
        self._entropy += other._entropy
        self._clicks += other._clicks
        self._others += other._others

    @property
    def click_rate(self) -> float:
        """Expected share of clicks."""
        return float(self._clicks.sum()) / self._counted()

    @property
    def log_loss(self) -> float:
        """The least expected log-loss, in nats an example."""
        return self._entropy / self._counted()

    @property
    def auc(self) -> float:
        """The greatest expected AUC."""
        self._counted()
        below = np.cumsum(self._others) - self._others / 2
        pairs = float(self._clicks.sum() * self._others.sum())
        return float(self._clicks @ below) / pairs

    def _counted(self) -> int:
        if not self.examples:
            raise DataError("no examples have been counted: add their probabilities first")
        return self.examples
