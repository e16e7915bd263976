"""FNW on a stream in which every example comes as a negative first."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.models.losses import FNW, CrossEntropy


def stream_slope(loss: FNW | CrossEntropy, rate: float, logit: float) -> float:
    """Return the expected gradient of one shown example: a negative, and a positive by `rate`."""
    found = loss(np.full(2, logit), np.array([0.0, 1.0]), np.array([1.0, rate]))
    return float(found.gradients.sum())


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.4, 0.9])
def test_its_gradient_is_zero_at_the_true_probability(rate: float) -> None:
    logit = float(np.log(rate / (1 - rate)))
    assert stream_slope(FNW(), rate, logit) == pytest.approx(0, abs=1e-12)
    assert stream_slope(FNW(), rate, logit + 0.1) > 0 > stream_slope(FNW(), rate, logit - 0.1)
    assert stream_slope(CrossEntropy(), rate, logit) > 1e-7  # plain loss is drawn below it


def test_descent_on_late_clicks_finds_the_rates(rng: np.random.Generator) -> None:
    rates = np.array([0.02, 0.1, 0.3])
    kind = rng.integers(0, 3, 60_000)
    clicked = rng.random(60_000) < rates[kind]
    at = np.concatenate([kind, kind[clicked]])
    labels = np.concatenate([np.zeros(60_000), np.ones(clicked.sum())])
    logits, loss = np.full(3, -2.0), FNW()
    for _ in range(300):
        slopes = np.bincount(at, loss(logits[at], labels).gradients) / np.bincount(at)
        logits -= 10 * slopes
    seen = np.bincount(kind[clicked]) / np.bincount(kind)
    np.testing.assert_allclose(loss.probabilities(logits), seen, rtol=0.01)
