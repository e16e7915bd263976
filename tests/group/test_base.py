"""What every group promises."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.group import LocalGroup


def test_one_array_per_worker_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="one array per worker"):
        LocalGroup(2).all_reduce_mean([np.zeros(1, np.float32)])


def test_each_worker_ends_up_with_a_mean_of_its_own() -> None:
    means = LocalGroup(2).all_reduce_mean([np.zeros(1, np.float32), np.ones(1, np.float32)])
    means[0][:] = 9
    assert means[1].tolist() == [0.5]
