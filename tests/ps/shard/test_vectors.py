"""Parts of vectors: any assignment of buckets to shards holds every number exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weiml.errors import ParameterServerError
from weiml.ps.partition import Partition, vector_places, vector_starts
from weiml.ps.shard.vectors import VectorPart

assignments = st.integers(1, 5).flatmap(
    lambda bits: st.lists(st.integers(0, 3), min_size=2**bits, max_size=2**bits)
)
lengths = st.integers(0, 200)


def whole_vector(length: int) -> np.ndarray:
    return np.arange(1, length + 1, dtype=np.float32)


def cut(vector: np.ndarray, shards: np.ndarray) -> list[VectorPart]:
    parts = []
    for shard in range(4):
        buckets = np.flatnonzero(shards == shard)
        places = vector_places(len(vector), len(shards), buckets)
        parts.append(VectorPart(len(vector), len(shards), buckets, vector[places]))
    return parts


def reassembled(parts: list[VectorPart]) -> np.ndarray:
    out = np.zeros(parts[0].length, np.float32)
    for part in parts:
        out[part.places] += part.values
    return out


def put_together(part: VectorPart, vector: np.ndarray) -> np.ndarray:
    runs = [vector[start:stop] for start, stop in part.ranges]
    return np.concatenate([np.empty(0, np.float32), *runs])


@given(length=lengths, shards=assignments)
@example(length=0, shards=[0, 1])
@example(length=1, shards=[1] * 32)
def test_any_assignment_of_buckets_holds_each_number_once(length: int, shards: list[int]) -> None:
    vector = whole_vector(length)
    parts = cut(vector, np.array(shards))
    np.testing.assert_array_equal(reassembled(parts), vector)
    assert sum(map(len, parts)) == length


@given(length=lengths, shards=assignments)
def test_ranges_are_the_maximal_runs_in_the_order_of_the_values(
    length: int, shards: list[int]
) -> None:
    vector = whole_vector(length)
    for part in cut(vector, np.array(shards)):
        np.testing.assert_array_equal(put_together(part, vector), part.values)
        stops = [stop for _, stop in part.ranges]
        starts = [start for start, _ in part.ranges]
        assert all(a < b for a, b in zip(starts, stops, strict=True))
        assert all(stop < start for stop, start in zip(stops[:-1], starts[1:], strict=True))


@given(length=lengths, shards=assignments, seed=st.integers(0, 99))
def test_buckets_that_move_take_their_numbers_along(
    length: int, shards: list[int], seed: int
) -> None:
    vector = whole_vector(length)
    before = np.array(shards)
    parts = cut(vector, before)
    after = np.random.default_rng(seed).permutation(before)
    for source in range(4):
        for target in range(4):
            moving = np.flatnonzero((before == source) & (after == target))
            if source == target or len(moving) == 0:
                continue
            shuffled = np.random.default_rng(seed).permutation(moving)
            parts[target].put(shuffled, parts[source].values_of(shuffled))
            kept = np.setdiff1d(parts[source].buckets, moving)
            parts[source] = parts[source].with_buckets(kept)
    np.testing.assert_array_equal(reassembled(parts), vector)
    for shard, part in enumerate(parts):
        np.testing.assert_array_equal(part.buckets, np.flatnonzero(after == shard))
        np.testing.assert_array_equal(put_together(part, vector), part.values)


@given(length=lengths, num_shards=st.integers(1, 8))
def test_places_agree_with_the_partition(length: int, num_shards: int) -> None:
    partition = Partition(num_shards, 16).rescaled(3)
    for shard in range(partition.num_shards):
        part = VectorPart(length, 16, partition.buckets_at(shard))
        np.testing.assert_array_equal(part.places, partition.vector_index(length, shard))


@given(length=st.integers(1, 200), shards=assignments, chosen=st.sets(st.integers(0, 199)))
def test_some_places_are_added_to_and_set_and_no_others(
    length: int, shards: list[int], chosen: set[int]
) -> None:
    vector = whole_vector(length)
    wanted = np.array(sorted(c for c in chosen if c < length), np.int64)
    parts = cut(vector, np.array(shards))
    for part in parts:
        own = np.intersect1d(wanted, part.places)
        part.add(np.full(len(own), 0.5, np.float32), 1, own)
    expected = vector.copy()
    expected[wanted] += 0.5
    np.testing.assert_array_equal(reassembled(parts), expected)
    for part in parts:
        own = np.intersect1d(wanted, part.places)
        part.set(-vector[own], 2, own)
    expected[wanted] = -vector[wanted]
    np.testing.assert_array_equal(reassembled(parts), expected)


def test_adding_and_setting_everything_marks_the_part_as_touched() -> None:
    part = VectorPart(10, 4, np.array([1, 3]))
    assert part.touched == 0
    part.add(np.ones(len(part), np.float32), 5)
    part.add(np.ones(len(part), np.float32), 6, part.places)
    np.testing.assert_array_equal(part.values, np.full(len(part), 2, np.float32))
    part.set(np.zeros(len(part), np.float32), 7)
    assert part.touched == 7
    assert not part.values.any()


def test_a_part_copies_its_values_and_keeps_them_contiguous() -> None:
    given_values = np.arange(20, dtype=np.float32)[::2]
    given_values.flags.writeable = False
    part = VectorPart(10, 2, np.array([0, 1]), given_values)
    part.add(np.ones(10, np.float32), 1)
    assert given_values[0] == 0
    assert part.values.flags.c_contiguous


def test_other_buckets_start_at_zero_and_lose_nothing_that_stays() -> None:
    vector = whole_vector(13)
    part = VectorPart(13, 8, np.arange(8), vector, touched=3)
    other = part.with_buckets(np.array([2, 5])).with_buckets(np.array([1, 2, 5]))
    starts = vector_starts(13, 8)
    expected = np.concatenate(
        [
            np.zeros(starts[2] - starts[1]),
            vector[starts[2] : starts[3]],
            vector[starts[5] : starts[6]],
        ]
    )
    np.testing.assert_array_equal(other.values, expected)
    assert other.touched == 3
    np.testing.assert_array_equal(part.values, vector)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda part: part.values_of(np.array([2])), "bucket 2 .* is not here"),
        (lambda part: part.values_of(np.array([0, 3])), "bucket 3 .* is not here"),
        (lambda part: part.put(np.array([2]), np.zeros(9)), "hold 3 numbers, got 9"),
        (lambda part: part.add(np.ones(1), 1, np.array([11])), "number 11 .* is not here"),
        (lambda part: VectorPart(12, 4, np.array([0]), np.zeros(4)), r"hold 3 numbers.*\(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(act: object, message: str) -> None:
    part = VectorPart(12, 4, np.array([0, 1]))
    with pytest.raises(ParameterServerError, match=message):
        act(part)  # type: ignore[operator]
    np.testing.assert_array_equal(part.values, np.zeros(6))
