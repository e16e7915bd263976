"""BPR: a sample of RankNet's pairs, the same in every process."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.losses.conftest import Inputs
from weiml.errors import ConfigError
from weiml.models.losses import BPR, RankNet


def test_it_is_ranknet_on_average(batch: Inputs) -> None:
    exact, drawn = RankNet()(*batch), BPR(negatives=20_000)(*batch)
    np.testing.assert_allclose(drawn.values, exact.values, atol=0.05)
    np.testing.assert_allclose(drawn.gradients, exact.gradients, atol=0.05)
    assert drawn.weight == pytest.approx(exact.weight)


def test_draws_depend_on_the_seed(batch: Inputs) -> None:
    first = BPR(seed=1)(*batch).values
    np.testing.assert_array_equal(first, BPR(seed=1)(*batch).values)
    assert (first != BPR(seed=2)(*batch).values).any()


def test_each_of_a_group_is_drawn_as_often() -> None:
    count = 8
    labels = np.array([1.0] + [0.0] * count)
    pulls = BPR(negatives=40_000)(np.zeros(count + 1), labels, None, np.ones(count + 1, int))
    np.testing.assert_allclose(pulls.gradients[1:], 0.5 / count, rtol=0.05)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="negatives must be at least 1, got 0"):
        BPR(negatives=0)
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        BPR(seed=-1)
