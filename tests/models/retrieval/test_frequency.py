"""Frequencies of items in a stream of batches, near the true ones and resumable."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.models.retrieval import FrequencyEstimator


def test_estimates_come_near_the_true_shares_of_batches() -> None:
    rng = np.random.default_rng(0)
    true = np.array([0.9, 0.5, 0.2, 0.05])
    estimator = FrequencyEstimator(64, rate=0.02)
    late: list[list[float]] = [[], [], [], []]
    for step in range(6000):
        items = np.flatnonzero(rng.random(4) < true)
        for item, p in zip(items, estimator.observe(items.astype(np.uint64) + 1), strict=True):
            if step > 2000:
                late[item].append(float(p))
    np.testing.assert_allclose([np.mean(own) for own in late], true, rtol=0.1)


def test_known_gaps() -> None:
    estimator = FrequencyEstimator(64, rate=0.5)
    a, b = np.array([7], np.uint64), np.array([8], np.uint64)
    assert estimator.observe(np.concatenate([a, a, a])).tolist() == [1.0, 1.0, 1.0]  # once a batch
    assert estimator.observe(b)[0] == np.float32(1 / 2)  # first in the second batch
    estimator.observe(b)
    assert estimator.observe(a)[0] == np.float32(1 / 2)  # gaps 1 and 3
    assert estimator.observe(a[:0]).shape == (0,)


def test_state_goes_to_another() -> None:
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, 50, 20).astype(np.uint64) for _ in range(20)]
    whole, half, other = (FrequencyEstimator(64) for _ in range(3))
    for batch in batches[:10]:
        whole.observe(batch)
        half.observe(batch)
    other.set_state(half.state())
    for batch in batches[10:]:
        np.testing.assert_array_equal(whole.observe(batch), other.observe(batch))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="power of 2, got 100"):
        FrequencyEstimator(100)
    with pytest.raises(ConfigError, match=r"frequency_rate must be in \(0, 1\], got 0"):
        FrequencyEstimator(64, 0.0)
    with pytest.raises(DataError, match="64 cells cannot be set from 32"):
        FrequencyEstimator(64).set_state(FrequencyEstimator(32).state())
