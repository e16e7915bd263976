"""What a ranking model must beat: item popularity, user mean + item mean, and their live forms.

All give probabilities. The first two learn rates from training labels and stay frozen; `DenseLogit`
reads columns that the features keep up to date, so it moves along with the test period.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, TypeVar

import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.kernels import sigmoid

__all__ = ["Baseline", "DenseLogit", "ItemPopularity", "UserItemMean"]

T = TypeVar("T")


class Baseline(ABC):
    """Fit on one batch, score another. Not thread-safe while fitting."""

    @abstractmethod
    def fit(self, batch: Batch) -> Self:
        """Learn from the labels of `batch` and return self."""

    @abstractmethod
    def score(self, batch: Batch) -> np.ndarray:
        """Return float32 (B,) probabilities."""


class _Rates:
    """Share of positives by id, drawn towards `prior` by `strength` imagined examples."""

    def __init__(self, ids: np.ndarray, labels: np.ndarray, prior: float, strength: float) -> None:
        self._ids, codes = np.unique(ids, return_inverse=True)
        counts = np.bincount(codes)
        positives = np.bincount(codes, weights=labels)
        self._rates = (positives + strength * prior) / (counts + strength)
        self._prior = prior

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the rate of each id, `prior` for unknown ones."""
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[places] == ids, self._rates[places], self._prior)


class ItemPopularity(Baseline):
    """Share of positives of the item in the training data, smoothed towards the overall share."""

    def __init__(self, *, strength: float = 10.0) -> None:
        self._strength = _positive(strength)
        self._rates: _Rates | None = None

    def fit(self, batch: Batch) -> Self:
        """See `Baseline.fit`."""
        labels = _labels(batch)
        self._rates = _Rates(batch.items, labels, labels.mean(), self._strength)
        return self

    def score(self, batch: Batch) -> np.ndarray:
        """See `Baseline.score`."""
        return _fitted(self._rates)(batch.items).astype(np.float32)


class UserItemMean(Baseline):
    """Overall share + the user's and the item's deviations from it, kept inside [0.01, 0.99]."""

    def __init__(self, *, strength: float = 10.0) -> None:
        self._strength = _positive(strength)
        self._parts: tuple[float, _Rates, _Rates] | None = None

    def fit(self, batch: Batch) -> Self:
        """See `Baseline.fit`."""
        labels = _labels(batch)
        overall = float(labels.mean())
        self._parts = (
            overall,
            _Rates(batch.groups, labels, overall, self._strength),
            _Rates(batch.items, labels, overall, self._strength),
        )
        return self

    def score(self, batch: Batch) -> np.ndarray:
        """See `Baseline.score`."""
        overall, users, items = _fitted(self._parts)
        total = users(batch.groups) + items(batch.items) - overall
        return np.clip(total, 0.01, 0.99).astype(np.float32)


class DenseLogit(Baseline):
    """Logistic regression on a few named dense columns, to the optimum by Newton's method.

    On history columns (the item's mean so far; the user's and the item's) this is the progressive
    form of the baselines above: weights are frozen, the columns are as of each event.
    """

    def __init__(self, *columns: str) -> None:
        if not columns:
            raise ConfigError("DenseLogit needs at least one dense column")
        self.columns = columns
        self._weights: np.ndarray | None = None

    def fit(self, batch: Batch) -> Self:
        """See `Baseline.fit`."""
        x, y = self._design(batch), _labels(batch)
        weights = np.zeros(x.shape[1])
        # A ridge far below the data's curvature only keeps separable data finite.
        ridge = 1e-6 * len(y) * np.eye(len(weights))
        for _ in range(50):
            p = _sigmoid64(x @ weights)
            gradient = x.T @ (p - y) + ridge @ weights
            curvature = (x.T * (p * (1 - p))) @ x + ridge
            change = np.linalg.solve(curvature, gradient)
            weights -= change
            if np.abs(change).max() < 1e-10:
                break
        self._weights = weights
        return self

    def score(self, batch: Batch) -> np.ndarray:
        """See `Baseline.score`."""
        weights = _fitted(self._weights)
        return np.asarray(sigmoid((self._design(batch) @ weights).astype(np.float32)))

    def _design(self, batch: Batch) -> np.ndarray:
        for column in self.columns:
            if column not in batch.dense_names:
                known = nearest(column, batch.dense_names)
                raise DataError(f"the batch has no dense column {column!r}{known}")
        places = [batch.dense_names.index(column) for column in self.columns]
        return np.column_stack([np.ones(len(batch)), batch.dense[:, places].astype(np.float64)])


def _labels(batch: Batch) -> np.ndarray:
    if not len(batch):
        raise DataError("a baseline cannot be fitted on an empty batch")
    return batch.labels[:, 0].astype(np.float64)


def _fitted(value: T | None) -> T:
    if value is None:
        raise DataError("the baseline is not fitted; call fit(batch) first")
    return value


def _positive(strength: float) -> float:
    if not strength > 0:
        raise ConfigError(f"strength must be above 0, got {strength}")
    return strength


def _sigmoid64(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
