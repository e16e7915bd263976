"""Beta calibration: exact where the classes' scores follow beta distributions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.calibration.conftest import Examples
from weiml.models import normalized_entropy
from weiml.models.calibration import Beta, FittedBeta, Platt


def test_scores_of_beta_distributions(rng: np.random.Generator) -> None:
    labels = (rng.random(40_000) < 0.3).astype(float)
    scores = np.where(labels == 1, rng.beta(5, 1, 40_000), rng.beta(1, 1.5, 40_000))
    fitted = Beta().fit(scores, labels)
    assert isinstance(fitted, FittedBeta)
    # The ratio of densities is p^(5 - 1) (1 - p)^(1 - 1.5) up to a factor.
    assert fitted.a == pytest.approx(4, abs=0.15)
    assert fitted.b == pytest.approx(0.5, abs=0.1)
    both = [normalized_entropy(labels, c.fit(scores, labels)(scores)) for c in (Beta(), Platt())]
    assert both[0] < both[1]


def test_a_bend_that_would_turn_the_order_is_left_out(rng: np.random.Generator) -> None:
    labels = (rng.random(20_000) < 0.5).astype(float)
    scores = np.where(labels == 1, rng.beta(3, 2, 20_000), rng.beta(1, 1, 20_000))
    fitted = Beta().fit(scores, labels)  # the densities fall again near 1
    assert isinstance(fitted, FittedBeta)
    assert fitted.a > 0 == fitted.b


def test_a_falling_order_is_not_turned_round(examples: Examples) -> None:
    fitted = Beta().fit(1 - examples.scores, examples.labels)
    assert fitted(np.array([0.1, 0.9])) == pytest.approx(examples.labels.mean(), abs=1e-6)
