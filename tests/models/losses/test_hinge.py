"""Hinge loss: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models.losses import Hinge


def test_known_answers() -> None:
    found = Hinge(pos_weight=3)(np.array([0.5, 2.0, -1.5, 0.0]), np.array([1.0, 1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found.values, [1.5, 0, 0, 1])
    np.testing.assert_array_equal(found.gradients, [-3, 0, 0, 1])
    assert (found.total, found.weight) == (2.5, 4.0)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="margin must be a finite number above 0, got 0"):
        Hinge(margin=0)
