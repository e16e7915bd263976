"""Distinct keys and sums by key, against Python's own containers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.ps import sum_by_key, unique_keys

keys_lists = st.lists(st.integers(0, 8) | st.integers(0, 2**64 - 1), max_size=200)


@given(keys=keys_lists)
@settings(max_examples=100, deadline=None)
def test_distinct_keys_come_in_order_of_first_appearance(keys: list[int]) -> None:
    distinct, inverse = unique_keys(np.array(keys, np.uint64))
    assert distinct.tolist() == list(dict.fromkeys(keys))
    assert distinct[inverse].tolist() == keys
    assert distinct.dtype == np.uint64
    assert inverse.dtype == np.int32


@given(keys=keys_lists, dim=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_sums_by_key_are_a_scatter_add(keys: list[int], dim: int) -> None:
    distinct, inverse = unique_keys(np.array(keys, np.uint64))
    values = np.random.default_rng(1).normal(size=(len(keys), dim)).astype(np.float32)
    expected = np.zeros((len(distinct), dim), np.float32)
    np.add.at(expected, inverse, values)
    assert np.array_equal(sum_by_key(values, inverse, len(distinct)), expected)
