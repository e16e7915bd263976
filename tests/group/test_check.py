"""The look at a group before training."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.errors import ClusterError, ConfigError
from weiml.group import CheckResult, LocalGroup, WorkerContext, check_group
from weiml.group.check import check_collectives


def test_a_group_that_works_passes() -> None:
    result = check_group(LocalGroup(3), 1000, rounds=3)
    assert (result.num_workers, result.bytes, result.rounds) == (3, 1000, 3)
    assert result.seconds > 0


def test_bandwidth_is_of_the_array_and_of_the_link() -> None:
    result = CheckResult(num_workers=4, bytes=8_000, rounds=1, seconds=0.002)
    assert result.algorithm_bandwidth == 4e6
    assert result.bus_bandwidth == 6e6


def test_wrong_numbers_are_an_error() -> None:
    check = check_collectives(WorkerContext(1, 2), 10, 1)
    next(check)
    check.send(None)
    with pytest.raises(ClusterError, match="worker 1 of 2 on cpu: the mean came out wrong"):
        check.send(np.zeros(10, np.float32))


@pytest.mark.parametrize(("size", "rounds"), [(3, 1), (4, 0)])
def test_a_check_of_nothing_is_refused(size: int, rounds: int) -> None:
    with pytest.raises(ConfigError, match="at least 4 bytes"):
        check_group(LocalGroup(1), size, rounds)
