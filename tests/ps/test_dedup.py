"""Distinct keys and sums by key, against Python's own containers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.ps.dedup import (
    counts_by_key,
    squares_by_key,
    sum_by_key,
    unique_keys,
    unique_split,
)
from weiml.ps.partition import Partition

keys_lists = st.lists(st.integers(0, 8) | st.integers(0, 2**64 - 1), max_size=200)


@given(keys=keys_lists)
@settings(max_examples=100, deadline=None)
def test_distinct_keys_come_in_order_of_first_appearance(keys: list[int]) -> None:
    distinct, inverse = unique_keys(np.array(keys, np.uint64))
    assert distinct.tolist() == list(dict.fromkeys(keys))
    assert distinct[inverse].tolist() == keys
    assert distinct.dtype == np.uint64
    assert inverse.dtype == np.int32


@pytest.mark.parametrize("vocabulary", [1, 5_000, 60_000, 10**15])
def test_batches_that_outgrow_the_first_table_are_right_too(
    vocabulary: int, rng: np.random.Generator
) -> None:
    keys = rng.integers(0, vocabulary, 150_000, dtype=np.uint64)
    keys[100_000:] %= np.uint64(3)  # what few repeats promised does not come
    distinct, inverse = unique_keys(keys)
    first = np.sort(np.unique(keys, return_index=True)[1])
    assert np.array_equal(distinct, keys[first])
    assert np.array_equal(distinct[inverse], keys)


def test_threads_do_not_share_their_scratch(rng: np.random.Generator) -> None:
    batches = [rng.integers(0, 50_000, 80_000, dtype=np.uint64) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(unique_keys, batches * 4))
    for batch, (distinct, inverse) in zip(batches * 4, results, strict=True):
        assert np.array_equal(distinct[inverse], batch)
        assert len(np.unique(distinct)) == len(distinct)


@given(keys=keys_lists, num_shards=st.integers(1, 5))
def test_split_keys_lie_with_their_shard_in_order_of_first_appearance(
    keys: list[int], num_shards: int
) -> None:
    partition = Partition(num_shards, 16)
    given_keys = np.array(keys, np.uint64)
    distinct, starts, inverse = unique_split(given_keys, partition.shards, num_shards)
    plain, _ = unique_keys(given_keys)
    split = partition.split(plain)
    assert np.array_equal(distinct, split.keys)
    assert np.array_equal(starts, split.starts)
    assert np.array_equal(distinct[inverse], given_keys)


@given(keys=keys_lists, dim=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_sums_by_key_are_a_scatter_add(keys: list[int], dim: int) -> None:
    distinct, inverse = unique_keys(np.array(keys, np.uint64))
    values = np.random.default_rng(1).normal(size=(len(keys), dim)).astype(np.float32)
    expected = np.zeros((len(distinct), dim), np.float32)
    np.add.at(expected, inverse, values)
    assert np.array_equal(sum_by_key(values, inverse, len(distinct)), expected)


@given(keys=keys_lists, dim=st.integers(1, 3))
def test_sums_of_squares_by_key_are_a_scatter_add_of_squares(keys: list[int], dim: int) -> None:
    distinct, inverse = unique_keys(np.array(keys, np.uint64))
    values = np.random.default_rng(1).normal(size=(len(keys), dim)).astype(np.float32)
    expected = np.zeros((len(distinct), dim), np.float32)
    np.add.at(expected, inverse, values * values)
    assert np.array_equal(squares_by_key(values, inverse, len(distinct)), expected)


@given(keys=keys_lists)
def test_counts_by_key_are_how_often_each_occurs(keys: list[int]) -> None:
    distinct, inverse = unique_keys(np.array(keys, np.uint64))
    counts = counts_by_key(inverse, len(distinct))
    assert counts.dtype == np.float32
    assert counts.tolist() == [keys.count(key) for key in distinct.tolist()]
