"""Random examples with ties, one-class groups and weights; plain float64 references."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

Example = tuple[int, float, int, float]

examples = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([0.0, 0.1, 0.25, 0.25000001, 0.5, 0.75, 0.9, 1.0]),
        st.integers(0, 4),
        st.floats(0.125, 8.0),
    ),
    min_size=1,
    max_size=60,
)


def columns(rows: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    labels, scores, groups, weights = zip(*rows, strict=True)
    return np.array(labels), np.array(scores), np.array(groups), np.array(weights)


def delta_error(
    metric: Callable[[np.ndarray], float], weights: np.ndarray, step: float = 1e-5
) -> float:
    """Return the standard error of a metric of example weights by its numeric derivatives.

    The infinitesimal jackknife: what the delta method comes to, without any of its algebra.
    """
    n = np.count_nonzero(weights)
    total = 0.0
    for i in range(len(weights)):
        sides = [weights.astype(float), weights.astype(float)]
        sides[0][i] *= 1 + step
        sides[1][i] *= 1 - step
        total += ((metric(sides[0]) - metric(sides[1])) / (2 * step)) ** 2
    return math.sqrt(total * n / (n - 1))


def made(rng: np.random.Generator, count: int = 300) -> tuple[np.ndarray, ...]:
    """Return labels, scores, groups and weights; scores are informative, but not calibrated."""
    scores = np.round(rng.beta(1, 3, count), 2).clip(0.01, 0.99)
    labels = (rng.random(count) < scores**1.3).astype(float)
    return labels, scores, rng.integers(1, 25, count), rng.uniform(0.2, 3, count)
