"""The mean that every transport computes."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.group import LocalGroup, rank_ordered_mean


def test_mean_is_summed_in_rank_order() -> None:
    arrays = [np.array([value], np.float32) for value in (1e8, 3.0, -1e8, 1.0)]
    total = np.float32(0)
    for array in arrays:
        total = total + array[0]
    assert rank_ordered_mean(arrays)[0] == total / np.float32(4)
    assert rank_ordered_mean(arrays).dtype == np.float32


def test_mean_of_one_array_is_a_copy() -> None:
    array = np.array([1.5, 2.5], np.float32)
    mean = rank_ordered_mean([array])
    mean[0] = 9
    assert array[0] == 1.5


def test_one_array_per_worker_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="one array per worker"):
        LocalGroup(2).all_reduce_mean([np.zeros(1, np.float32)])
