"""The reservoir: the same whatever the order and the parts, and fair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.features.transforms.reservoir import Reservoir


def seen(x: np.ndarray, classes: np.ndarray, size: int) -> Reservoir:
    reservoir = Reservoir(size, x.shape[1])
    reservoir.add(x, classes)
    return reservoir


def state(reservoir: Reservoir) -> list[bytes]:
    return [
        part.tobytes()
        for part in (reservoir.hashes, reservoir.numbers, reservoir.classes, reservoir.counts)
    ]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 1])), min_size=1, max_size=60),
    st.integers(1, 20),
    st.lists(st.integers(0, 60), max_size=3),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_parts_count(
    rows: list[tuple[int, int]], size: int, places: list[int], random: object
) -> None:
    x = np.array([[value, np.nan if value == 3 else -value] for value, _ in rows], np.float64)
    classes = np.array([c for _, c in rows], np.uint64)
    order = np.random.default_rng(1).permutation(len(rows))
    parts = np.split(order, sorted(places))
    total = seen(x[parts[-1]], classes[parts[-1]], size)
    for part in parts[:-1]:
        total.merge(seen(x[part], classes[part], size))
    assert state(total) == state(seen(x, classes, size))
    distinct = len(set(rows))
    assert total.hashes.size == min(distinct, size)
    if distinct <= size:
        assert total.counts.sum() == len(rows)


def test_the_sample_is_fair(rng: np.random.Generator) -> None:
    x = np.floor(rng.exponential(300, 200_000))[:, None]
    sample = seen(x, np.zeros(200_000, np.uint64), 1000)
    assert sample.hashes.size == 1000
    mean = np.average(sample.numbers[:, 0], weights=sample.counts)
    assert mean == pytest.approx(x.mean(), rel=0.05)


def test_equal_numbers_of_other_bits_are_one() -> None:
    other_nan = np.array([0x7FF8_0000_0000_0001], np.uint64).view(np.float64)[0]
    x = np.array([[0.0], [-0.0], [np.nan], [other_nan]])
    assert seen(x, np.zeros(4, np.uint64), 9).counts.tolist() == [2, 2]


def test_no_room_is_told() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Reservoir(0, 1)
