"""Expiry, capacity and what they leave: rows that go, for which reason, and when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.ps.optimizers import SGD
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.capacity import fitting, lowest, needed_rooms
from weiml.ps.tables.expiry import ExpiryConfig
from weiml.ps.tables.sparse import SparseTable, TableConfig

ALL = np.arange(100, dtype=np.uint64)


def make(num_buckets: int = 4, **fields: Any) -> SparseTable:
    return SparseTable(TableConfig("t", optimizer=SGD(lr=1.0), **fields), num_buckets)


def push(table: SparseTable, keys: Any, sequence: int, step: int = 0, size: float = 1.0) -> None:
    keys = np.array(keys, np.uint64)
    table.push_gradients(keys, np.full((keys.size, 1), size, np.float32), sequence, step=step)


def left(table: SparseTable) -> list[int]:
    return np.flatnonzero(table.export_rows(ALL)[1]).tolist()


@pytest.mark.parametrize("unit", ["steps", "seconds"])
def test_rows_not_seen_for_long_go(unit: Any) -> None:
    rules = ExpiryConfig(ttl=10, unit=unit)
    table = make(statistics=("last_seen",), expiry=rules)
    # The other clock stands still.
    step, now_s = (1, 0.0) if unit == "steps" else (0, 1.0)
    for sequence, (keys, at) in enumerate([([1, 2, 3], 100), ([2], 105), ([3], 111)], 1):
        table.clock = lambda at=at: at * now_s  # type: ignore[misc]
        push(table, keys, sequence, step=at * step)
    assert table.expire(4, step=110 * step, now_s=110.9 * now_s) == 0  # ten units ago, not more
    assert table.expire(4, step=112 * step, now_s=112.9 * now_s) == 1
    assert left(table) == [2, 3]
    assert table.expire(5, step=116 * step, now_s=116.9 * now_s) == 1
    assert left(table) == [3]
    assert table.expired == 2
    # They are told like deletions.
    assert table.changed_keys(4).tolist() == [2]  # type: ignore[union-attr]


def test_rows_of_no_weight_go() -> None:
    table = make(expiry=ExpiryConfig(min_norm=0.5))
    for key, size in enumerate([0.0, 0.49, -0.49, 0.5, -2.0]):
        push(table, [key], key + 1, size=size)
    assert table.expire(9, step=0, now_s=0) == 3
    assert left(table) == [3, 4]


def test_rows_of_no_interest_go_as_their_score_decays() -> None:
    rules = ExpiryConfig(min_score=1.0, show_weight=0.1, click_weight=2.0, decay=0.5)
    table = make(statistics=("shows", "clicks"), expiry=rules)
    shows, clicks = np.array([19, 21, 4, 0], np.float32), np.array([0, 0, 2, 0], np.float32)
    table.push_statistics(ALL[:4], shows, clicks, 1)
    assert table.expire(2, step=0, now_s=0) == 2  # 0.95, 1.05, 2.1, 0
    assert left(table) == [1, 2]
    payload = table.export_rows(ALL[1:3])[0][:, 1:].copy().view(np.float32)
    assert payload.tolist() == [[10.5, 0.0], [2.0, 1.0]]
    # Every row has changed, which no list of keys tells more cheaply than all rows.
    assert table.changed_keys(1) is None
    assert table.changed_keys(2).tolist() == []  # type: ignore[union-attr]
    assert table.expire(3, step=0, now_s=0) == 1
    assert left(table) == [2]


def test_without_decay_only_what_goes_has_changed() -> None:
    table = make(statistics=("shows", "clicks"), expiry=ExpiryConfig(min_score=0.5))
    table.push_statistics(ALL[:2], np.array([4, 6], np.float32), np.zeros(2, np.float32), 1)
    table.expire(2, step=0, now_s=0)
    assert table.changed_keys(1).tolist() == [0]  # type: ignore[union-attr]


def test_expiry_may_go_bucket_by_bucket() -> None:
    table = make(num_buckets=8, statistics=("last_seen",), expiry=ExpiryConfig(ttl=1))
    push(table, ALL, 1, step=1)
    buckets = buckets_of_keys(ALL, 8)
    assert table.expire(2, step=9, now_s=0, buckets=(2, 5)) == np.isin(buckets, [2, 3, 4]).sum()
    assert not np.isin(buckets[left(table)], [2, 3, 4]).any()
    assert table.expire(3, step=9, now_s=0) == np.isin(buckets, [2, 3, 4], invert=True).sum()
    assert len(table) == 0


def test_a_table_without_rules_keeps_all() -> None:
    table = make()
    push(table, ALL, 1)
    assert table.expire(2, step=10**6, now_s=1e9) == 0
    assert len(table) == 100


def test_many_rows_expire_in_pieces(rng: np.random.Generator) -> None:
    table = make(num_buckets=64, statistics=("last_seen",), expiry=ExpiryConfig(ttl=5))
    keys = rng.permutation(200_000).astype(np.uint64)
    push(table, keys, 1, step=1)
    push(table, keys[:50_000], 2, step=9)
    assert table.expire(3, step=10, now_s=0) == 150_000
    assert table.export_rows(keys)[1].sum() == table.export_rows(keys[:50_000])[1].sum() == 50_000


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "none is set"),
        ({"ttl": 0}, "ttl must be 1"),
        ({"ttl": 1, "unit": "days"}, "unit must be"),
        ({"min_norm": 0.0}, "min_norm"),
        ({"min_score": float("nan")}, "min_score"),
        ({"min_score": 1.0, "click_weight": -1.0}, "click_weight"),
        ({"min_score": 1.0, "decay": 0.0}, "decay must be"),
        ({"ttl": 1, "decay": 0.5}, "min_score, which is not set"),
    ],
)
def test_wrong_rules_are_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        ExpiryConfig(**fields)


# Capacity


def test_a_full_bucket_refuses_newcomers_and_serves_who_is_there() -> None:
    table = make(num_buckets=2, capacity=20)
    push(table, ALL, 1)
    assert len(table) == 20
    assert table.refused == 80
    per_bucket = np.bincount(buckets_of_keys(ALL, 2)[left(table)])
    assert per_bucket.tolist() == [10, 10]
    # First come, first served.
    for bucket in (0, 1):
        own = np.flatnonzero(buckets_of_keys(ALL, 2) == bucket)
        assert set(own[:10].tolist()) <= set(left(table))
    push(table, ALL, 2)
    assert (table.pull_weights(ALL)[left(table)] == -2).all()
    assert table.refused == 160
    table.delete(ALL[left(table)][:1], 3)
    push(table, [1000, 1001, 1002, 1003, 1004, 1005], 4)
    assert len(table) == 20


def test_a_refused_key_that_repeats_is_refused_each_time() -> None:
    table = make(num_buckets=2, capacity=2)
    push(table, np.repeat(ALL, 2), 1)
    assert len(table) == 2
    assert table.refused == 2 * 98
    assert table.pull_weights(ALL).sum() == -4


def test_those_seen_longest_ago_make_way() -> None:
    table = make(num_buckets=2, capacity=200, capacity_policy="oldest", statistics=("last_seen",))
    keys = np.arange(10_000, dtype=np.uint64)
    for step in range(500):
        push(table, keys[20 * step : 20 * step + 20], step + 1, step=step)
        push(table, [0, 1, 2], step + 1, step=step)
        assert len(table) <= 200
    assert table.refused == 0
    assert table.evicted > 9000
    there = np.flatnonzero(table.export_rows(keys)[1])
    assert there[:3].tolist() == [0, 1, 2]
    assert there[3] > 10_000 - 260
    assert len(there) > 180
    # Evicted rows are told like deletions.
    changed = set(table.changed_keys(499).tolist())  # type: ignore[union-attr]
    assert changed > set(keys[9980:].tolist())


def test_those_of_the_smallest_weight_make_way(rng: np.random.Generator) -> None:
    table = make(num_buckets=2, capacity=100, capacity_policy="smallest")
    sizes = rng.permutation(2000) + 1
    for sequence, start in enumerate(range(0, 2000, 10), 1):
        keys = np.arange(start, start + 10, dtype=np.uint64)
        grads = sizes[start : start + 10].reshape(-1, 1).astype(np.float32)
        table.push_gradients(keys, grads, sequence)
    there = table.export_rows(np.arange(2000, dtype=np.uint64))[1]
    kept, gone = sizes[there], sizes[~there]
    assert len(table) <= 100
    assert np.sort(kept)[20] > np.quantile(gone, 0.95)


def test_rows_of_the_push_itself_do_not_make_way() -> None:
    table = make(num_buckets=2, capacity=20, capacity_policy="oldest", statistics=("last_seen",))
    push(table, range(20), 1, step=1)
    old = left(table)
    push(table, [*old, *range(50, 100)], 2, step=2)
    assert set(old) <= set(left(table))
    assert table.evicted == 0
    assert table.refused == len(old) + 50 - 20 + 20 - len(old)


@given(scores=st.lists(st.integers(0, 5), max_size=20), number=st.integers(0, 25))
def test_the_lowest_are_chosen_and_of_equals_the_first(scores: list[int], number: int) -> None:
    number = min(number, len(scores))
    expected = sorted(range(len(scores)), key=lambda i: (scores[i], i))[:number]
    if number:
        assert lowest(np.array(scores), number).tolist() == sorted(expected)


@given(keys=st.lists(st.integers(0, 20), max_size=30), room=st.integers(0, 5))
def test_rooms_are_given_to_different_keys_in_order(keys: list[int], room: int) -> None:
    flat = np.array(keys, np.uint64)
    buckets = buckets_of_keys(flat, 4)
    fits = fitting(flat, buckets, np.full(4, room))
    rooms, inside = [room] * 4, set()
    for key, bucket, fit in zip(keys, buckets.tolist(), fits.tolist(), strict=True):
        if key not in inside and rooms[bucket]:
            rooms[bucket] -= 1
            inside.add(key)
        assert fit == (key in inside)
    distinct = np.unique(flat)
    expected = np.bincount(buckets_of_keys(distinct, 4), minlength=4)
    assert needed_rooms(flat, buckets, 4).tolist() == expected.tolist()


def test_a_capacity_below_a_row_for_each_bucket_is_refused() -> None:
    with pytest.raises(ConfigError, match="capacity = 100 is less.*num_buckets = 1024"):
        make(num_buckets=1024, capacity=100)
