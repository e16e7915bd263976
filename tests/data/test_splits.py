from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.splits import SPLITS, split_by_time
from weiml.errors import ConfigError, DataError


def test_shares_without_ties_are_exact() -> None:
    split = split_by_time(np.arange(1000), 0.1, 0.2)
    assert [(split == name).sum() for name in SPLITS] == [700, 100, 200]
    assert split[0] == "train"
    assert split[-1] == "test"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_seconds_are_never_torn_apart(times: list[int]) -> None:
    ordered = np.array(sorted(times))
    try:
        split = split_by_time(ordered, 0.2, 0.2)
    except DataError:
        return  # too few distinct seconds
    order = np.array([SPLITS.index(name) for name in split])
    assert (np.diff(order) >= 0).all()
    assert all(len(set(split[ordered == t])) == 1 for t in set(times))


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_must_leave_something(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="_share"):
        split_by_time(np.arange(100), *shares)


@pytest.mark.parametrize("n", [0, 1, 100])
def test_a_split_that_would_be_empty_is_an_error(n: int) -> None:
    with pytest.raises(DataError, match="nothing is left for"):
        split_by_time(np.full(n, 7), 0.1, 0.1)
