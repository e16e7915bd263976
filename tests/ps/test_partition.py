"""Sharding is a partition of the whole key space, its ends included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.ps import Partition
from weiml.ps.partition import buckets_of_keys, vector_starts

ENDS = [0, 1, 2, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
shard_counts = st.integers(1, 40) | st.sampled_from([1023, 1024])


@given(keys=st.lists(st.integers(0, 2**64 - 1), max_size=60), num_shards=shard_counts)
@settings(max_examples=150, deadline=None)
def test_every_key_belongs_to_exactly_one_shard(keys: list[int], num_shards: int) -> None:
    partition = Partition(num_shards)
    asked = np.array([*ENDS, *keys], np.uint64)
    split = partition.split(asked)
    assert split.starts[0] == 0
    assert split.starts[-1] == len(asked)
    assert np.array_equal(asked[split.order], split.keys)
    assert sorted(split.order.tolist()) == list(range(len(asked)))
    owners = partition.shards_of(asked)
    for shard in range(num_shards):
        part = split.part(shard)
        assert (owners[split.order[part]] == shard).all()
        assert (np.diff(split.order[part]) > 0).all()  # input order is kept
        assert np.isin(partition.buckets_of(split.keys[part]), partition.buckets_at(shard)).all()


@pytest.mark.parametrize("num_shards", [1, 2, 3, 7, 1000, 1024])
def test_shards_hold_runs_of_equally_many_buckets(num_shards: int) -> None:
    partition = Partition(num_shards)
    held = [partition.buckets_at(shard) for shard in range(num_shards)]
    assert np.concatenate(held).tolist() == list(range(1024))
    sizes = [len(buckets) for buckets in held]
    assert max(sizes) - min(sizes) <= 1
    again = Partition.from_runs(**partition.to_mapping())  # type: ignore[arg-type]
    assert again == partition


@pytest.mark.parametrize("shift", [0, 20, 44])
def test_buckets_are_even_whatever_the_keys_have_in_common(shift: int) -> None:
    keys = np.arange(200_000, dtype=np.uint64) << np.uint64(shift)
    counts = np.bincount(Partition(4).buckets_of(keys), minlength=1024)
    assert counts.min() > 100
    assert counts.max() < 320


def test_the_placement_of_a_key_is_the_documented_one() -> None:
    # Checkpoints and other processes rely on it: the high bits of MurmurHash3's finaliser.
    def bucket(key: int) -> int:
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            key = (key ^ key >> 33) * factor % 2**64
        return (key ^ key >> 33) >> 54

    keys = [*ENDS, 123456789, 3**40]
    buckets = Partition(4).buckets_of(np.array(keys, np.uint64))
    assert buckets.tolist() == [bucket(key) for key in keys]


@given(length=st.integers(0, 10_000), num_shards=st.integers(1, 50))
def test_the_shards_of_a_vector_tile_it(length: int, num_shards: int) -> None:
    partition = Partition(num_shards)
    places = [partition.vector_index(length, shard) for shard in range(num_shards)]
    assert np.concatenate(places).tolist() == list(range(length))


@given(rows=st.integers(1, 5_000), num_buckets=st.sampled_from([2, 16, 1024]))
def test_rows_of_dense_tables_lie_in_the_buckets_range(rows: int, num_buckets: int) -> None:
    keys = np.arange(rows, dtype=np.uint64)
    buckets = buckets_of_keys(keys, num_buckets, rows)
    starts = vector_starts(rows, num_buckets)
    assert (starts[buckets] <= keys).all()
    assert (keys < starts[buckets + 1]).all()


@pytest.mark.parametrize("num_buckets", [0, 1, 3, 1000, 131072])
def test_a_number_of_buckets_that_is_no_power_of_two_is_refused(num_buckets: int) -> None:
    with pytest.raises(ConfigError, match=f"num_buckets must be a power of two.*got {num_buckets}"):
        Partition(1, num_buckets)


@pytest.mark.parametrize("num_shards", [0, -1, 1025])
def test_a_number_of_shards_that_cannot_be_is_refused(num_shards: int) -> None:
    with pytest.raises(ConfigError, match=f"num_buckets = 1024, got {num_shards}"):
        Partition(num_shards)
