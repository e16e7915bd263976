"""Examples summed by score: all that metrics without groups need, and mergeable.

AUC, log-loss, calibration: each is a sum over distinct scores of the weight of positives and of
negatives there, and each standard error one of their squares. So a table with a line for each
distinct score is exact and as small as can be; cells of equal width in logits bound its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from weiml.models.calibration.logistic import logit
from weiml.models.metrics.arrays import run_starts

__all__ = ["ScoreCells", "ScoreRuns", "ScoreTable", "runs_of"]

_REACH = 20.0  # scores beyond ±20 in logits, 2e-9 from 0 or 1, share the outermost cells
_PENDING = 1 << 16


class ScoreRuns(NamedTuple):
    """Examples summed by score, which rises.

    An example of label y and weight w counts ``p = w y`` as positive and ``q = w (1 − y)`` as
    negative, so that labels may lie between 0 and 1.
    """

    scores: np.ndarray
    """float (r,)."""
    sums: np.ndarray
    """float64 (5, r): Σ p, Σ q, Σ p², Σ q², Σ p q."""
    counts: tuple[int, int, int]
    """Of examples with p above 0, with q above 0, with either."""

    @property
    def positive(self) -> np.ndarray:
        """Weight of positives float64 (r,)."""
        return self.sums[0]

    @property
    def negative(self) -> np.ndarray:
        """Weight of negatives float64 (r,)."""
        return self.sums[1]

    def spread(self, of_positive: np.ndarray, of_negative: np.ndarray) -> float:
        """Return the standard error of ``Σ (p a + q b) / Σ w``, whose terms a, b have mean 0."""
        n = self.counts[2]
        if n < 2:
            return math.nan
        _, _, pp, qq, pq = self.sums
        total = of_positive**2 @ pp + of_negative**2 @ qq + 2 * (of_positive * of_negative) @ pq
        mass = float(self.sums[:2].sum())
        return math.sqrt(max(float(total), 0.0) * n / (n - 1)) / mass


def runs_of(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> ScoreRuns:
    """Sum checked examples by score; those of weight 0 leave no trace."""
    present = weights > 0
    if not present.all():
        labels, scores, weights = labels[present], scores[present], weights[present]
    p, q = labels * weights, (1 - labels) * weights
    counts = (int(np.count_nonzero(p)), int(np.count_nonzero(q)), len(p))
    return _summed(scores, np.stack([p, q, p * p, q * q, p * q]), counts)


def _summed(scores: np.ndarray, sums: np.ndarray, counts: tuple[int, int, int]) -> ScoreRuns:
    if not len(scores):
        return ScoreRuns(scores, sums, counts)
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = run_starts(ordered)
    return ScoreRuns(ordered[starts], np.add.reduceat(sums[:, order], starts, axis=1), counts)


def _joined(parts: Sequence[ScoreRuns]) -> ScoreRuns:
    first, second, third = (sum(column) for column in zip(*(r.counts for r in parts), strict=True))
    scores = np.concatenate([part.scores for part in parts])
    return _summed(scores, np.hstack([part.sums for part in parts]), (first, second, third))


class ScoreTable:
    """Exact runs of what was added; as large as there are distinct scores. Not thread-safe.

    48 bytes a distinct score; for float32 probabilities there are at most 2³⁰ between 0 and 1.
    """

    def __init__(self) -> None:
        self._parts: list[ScoreRuns] = []
        self._pending = 0

    def add(self, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
        """Add checked examples, float64 (n,) each."""
        self._take(runs_of(labels, scores, weights))

    def merge(self, other: ScoreTable) -> None:
        """Add what another one has seen."""
        self._take(other.runs())

    def runs(self) -> ScoreRuns:
        """Return the runs of all that was added."""
        if len(self._parts) != 1:
            empty = ScoreRuns(np.empty(0), np.empty((5, 0)), (0, 0, 0))
            self._parts = [_joined([empty, *self._parts])]
            self._pending = 0
        return self._parts[0]

    def auc_bound(self) -> float:
        """Return how far the AUC may be off: not at all."""
        return 0.0

    def _take(self, runs: ScoreRuns) -> None:
        self._parts.append(runs)
        self._pending += len(runs.scores)
        if self._pending > max(_PENDING, len(self._parts[0].scores)):
            self.runs()  # as often as the table doubles, so each line is moved a few times


class ScoreCells:
    """Runs by cells of equal width in logits, for streams without an end. Not thread-safe.

    Two scores in one cell count as tied. So the AUC is off by at most half the share of pairs of a
    positive and a negative that meet in one cell, ``½ Σ_c P_c N_c / (P N)``, which `auc_bound`
    gives.

    Args:
        cells: how many; 65,536 tell logits 1/1638 apart.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._sums = np.zeros((6, cells))
        self._counts = np.zeros(3, np.int64)

    def add(self, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
        """Add checked examples, float64 (n,) each, whose scores are probabilities."""
        p, q = labels * weights, (1 - labels) * weights
        places = ((logit(scores) + _REACH) * (self.cells / (2 * _REACH))).astype(np.int64)
        np.clip(places, 0, self.cells - 1, out=places)
        for sums, terms in zip(
            self._sums, (p, q, p * p, q * q, p * q, weights * scores), strict=True
        ):
            sums += np.bincount(places, terms, self.cells)
        self._counts += [np.count_nonzero(p), np.count_nonzero(q), np.count_nonzero(weights)]

    def merge(self, other: ScoreCells) -> None:
        """Add what another one of as many cells has seen."""
        self._sums += other._sums
        self._counts += other._counts

    def runs(self) -> ScoreRuns:
        """Return the cells that are not empty, each at its mean score."""
        mass = self._sums[0] + self._sums[1]
        kept = mass > 0
        first, second, third = (int(count) for count in self._counts)
        means = self._sums[5, kept] / mass[kept]
        return ScoreRuns(means, self._sums[:5, kept], (first, second, third))

    def auc_bound(self) -> float:
        """Return how far the AUC of `runs` may be from the exact one."""
        positive, negative = self._sums[0], self._sums[1]
        pairs = float(positive.sum() * negative.sum())
        return float(positive @ negative) / (2 * pairs) if pairs > 0 else math.nan
