"""Hashes come out sorted, however they lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.rows.hash_sort import sort_hashes

TOP = 2**64 - 1
HASHES = st.one_of(st.integers(0, TOP), st.integers(0, 9), st.integers(TOP - 9, TOP))


@given(st.lists(HASHES, max_size=300))
def test_they_come_out_sorted(hashes: list[int]) -> None:
    assert sort_hashes(np.array(hashes, np.uint64)).tolist() == sorted(hashes)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 1000, 300_000])
@pytest.mark.parametrize("repeated", [0.0, 0.5, 1.0])
def test_repeated_ones_stay(n: int, repeated: float, rng: np.random.Generator) -> None:
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    hashes[rng.random(n) < repeated] = 12345
    expected = np.sort(hashes)
    assert np.array_equal(sort_hashes(hashes), expected)


@pytest.mark.parametrize("bits", [1, 6, 40, 63])
def test_those_of_a_part_of_the_range_come_out_sorted(bits: int, rng: np.random.Generator) -> None:
    hashes = rng.integers(0, 2**64, 100_000, dtype=np.uint64) >> np.uint64(bits)
    hashes += np.uint64(3 << bits - 1)
    expected = np.sort(hashes)
    assert np.array_equal(sort_hashes(hashes), expected)


def test_those_that_all_share_their_high_bits_take_no_square_of_time() -> None:
    hashes = np.arange(1_000_000, dtype=np.uint64)[::-1].copy()  # would be 5·10¹¹ steps
    assert np.array_equal(sort_hashes(hashes), np.arange(1_000_000, dtype=np.uint64))
