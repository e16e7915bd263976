"""Focal loss: gamma 0 is cross-entropy, and its minimum gives back the true probability."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.losses.conftest import Inputs
from weiml.errors import ConfigError
from weiml.models.losses import CrossEntropy, Focal


def test_gamma_zero_is_cross_entropy(batch: Inputs) -> None:
    mine, other = Focal(gamma=0, pos_weight=2), CrossEntropy(pos_weight=2)
    np.testing.assert_allclose(mine(*batch).values, other(*batch).values, rtol=1e-12)
    np.testing.assert_allclose(mine(*batch).gradients, other(*batch).gradients, rtol=1e-12)
    np.testing.assert_allclose(
        mine.probabilities(batch.logits), other.probabilities(batch.logits), rtol=1e-6
    )


@pytest.mark.parametrize(
    "loss", [Focal(), Focal(gamma=5), Focal(gamma=1, alpha=0.25), Focal(pos_weight=10)]
)
def test_at_the_least_expected_loss_probabilities_are_true(loss: Focal) -> None:
    x = np.linspace(-2, 2, 49)
    rate = loss.probabilities(x).astype(float)
    assert (np.diff(rate) > 0).all()
    up = loss(x, np.ones(49), rate).gradients
    down = loss(x, np.zeros(49), 1 - rate).gradients
    inside = rate < 1 - 1e-3  # beyond, float32 knows 1 − rate to three digits only
    np.testing.assert_allclose((up / down)[inside], -1, rtol=1e-3)


def test_the_known_is_passed_over() -> None:
    x, y = np.array([4.0, -4.0]), np.ones(2)
    focal, plain = Focal(gamma=2)(x, y).values, CrossEntropy()(x, y).values
    assert focal[0] / plain[0] < 1e-3
    assert focal[1] / plain[1] > 0.9


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="gamma must be a finite number, 0 or more, got -1"):
        Focal(gamma=-1)
    with pytest.raises(ConfigError, match="alpha must lie between 0 and 1, got 1"):
        Focal(alpha=1)
