"""Scores that keep the order of the true probabilities, but not their scale."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest


class Examples(NamedTuple):
    scores: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def distorted(rng: np.random.Generator, count: int, slope: float, shift: float) -> Examples:
    """Return float32 scores whose log-odds are slope · (true ones) + shift."""
    truth = rng.beta(1, 4, count).clip(1e-4, 1 - 1e-4)
    logits = slope * np.log(truth / (1 - truth)) + shift
    return Examples(
        scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
        labels=(rng.random(count) < truth).astype(np.float32),
        weights=rng.uniform(0.3, 3, count),
    )


@pytest.fixture
def examples(rng: np.random.Generator) -> Examples:
    return distorted(rng, 20_000, 1.7, 1.0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
