"""RankNet: pairs within groups only, and a group counts by its positives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models.losses import RankNet


def test_known_answers() -> None:
    logits = np.array([2.0, 0.0, -5.0, 1.0])
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    found = RankNet()(logits, labels, None, np.array([4, 4, 9, 9]))
    pair = math.log(1 + math.exp(-2))
    np.testing.assert_allclose(found.values, [pair, 0, 0, 0])
    np.testing.assert_allclose(found.gradients[:2], [-1 / (1 + math.e**2), 1 / (1 + math.e**2)])
    assert (found.gradients[2:] == 0).all()  # a group of one class has no pairs
    assert found.weight == 1


def test_more_negatives_weigh_no_more() -> None:
    few = RankNet()(np.zeros(2), np.array([1.0, 0.0]), None, np.ones(2, int))
    many = RankNet()(np.zeros(9), np.array([1.0] + [0.0] * 8), None, np.ones(9, int))
    assert many.total == pytest.approx(few.total)
    assert many.gradients[0] == pytest.approx(few.gradients[0])


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="scale must be a finite number above 0"):
        RankNet(scale=0)
