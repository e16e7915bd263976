"""Cross-entropy: known answers, and what weighted positives do to probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import log_loss
from weiml.models.losses import CrossEntropy


def test_the_mean_is_the_log_loss(rng: np.random.Generator) -> None:
    loss = CrossEntropy()
    logits, labels = rng.standard_normal(500), rng.integers(0, 2, 500)
    weights = rng.uniform(0, 2, 500)
    found = loss(logits, labels, weights)
    scores = 1 / (1 + np.exp(-logits))
    assert found.total / found.weight == pytest.approx(log_loss(labels, scores, weights))
    np.testing.assert_allclose(loss.probabilities(logits), scores, rtol=1e-6)


def test_weighted_positives_are_taken_out_of_the_probabilities() -> None:
    rate, loss = 0.03, CrossEntropy(pos_weight=5)
    x = math.log(5 * rate / (1 - rate))
    pulls = loss(np.array([x, x]), np.array([1, 0]), np.array([rate, 1 - rate])).gradients
    assert pulls.sum() == pytest.approx(0, abs=1e-15)
    assert loss.probabilities(np.array([x]))[0] == pytest.approx(rate, rel=1e-6)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="pos_weight must be a finite number above 0, got 0"):
        CrossEntropy(pos_weight=0)
