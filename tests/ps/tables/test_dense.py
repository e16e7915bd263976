"""Dense tables: rows by number that are always there, trained like any other, moved by bucket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps.kernels import initial_weights
from weiml.ps.optimizers import FTRL, SGD, Adagrad
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.config import TableConfig
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.expiry import ExpiryConfig

ALL = np.arange(8)
PLAIN = TableConfig("emb", dim=3, optimizer=Adagrad(lr=0.1), init_scale=0.5, seed=4, rows=21)


def every_key(config: TableConfig) -> np.ndarray:
    return np.arange(config.rows or 0, dtype=np.uint64)


def test_rows_are_there_from_the_start_with_weights_that_depend_on_their_keys_alone() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    keys = every_key(PLAIN)
    assert len(table) == 21
    expected = initial_weights(keys, 3, np.uint64(4), 0.5)
    np.testing.assert_array_equal(table.pull_weights(keys), expected)
    some = DenseTable(PLAIN, 8, np.array([2, 5]))
    own = keys[np.isin(buckets_of_keys(keys, 8, 21), [2, 5])]
    np.testing.assert_array_equal(some.pull_weights(own[::-1]), expected[own.astype(int)][::-1])
    assert len(some) == len(own)


@given(
    rows=st.integers(1, 5000),
    bits=st.integers(1, 10),
    keys=st.lists(st.integers(0, 4999), max_size=40),
)
def test_every_row_is_found_in_the_bucket_that_its_range_says(
    rows: int, bits: int, keys: list[int]
) -> None:
    config = TableConfig("t", optimizer=SGD(), init_scale=1.0, rows=rows)
    wanted = np.array([key % rows for key in keys], np.uint64)
    buckets = np.unique(buckets_of_keys(wanted, 2**bits, rows))
    table = DenseTable(config, 2**bits, buckets)
    expected = initial_weights(wanted, 1, np.uint64(0), 1.0)
    np.testing.assert_array_equal(table.pull_weights(wanted), expected)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.3), Adagrad(lr=0.2), FTRL(alpha=0.2, l1=0.01)])
def test_gradients_go_through_the_optimizer_in_order_repeated_keys_too(optimizer: Any) -> None:
    config = replace(PLAIN, optimizer=optimizer)
    table = DenseTable(config, 8, ALL)
    rng = np.random.default_rng(1)
    keys = np.array([3, 20, 3, 0, 3], np.uint64)
    grads = rng.normal(size=(5, 3)).astype(np.float32)
    expected = optimizer.initial_state(initial_weights(every_key(config), 3, np.uint64(4), 0.5))
    for key, grad in zip(keys.astype(int), grads, strict=True):
        expected[[key]] = optimizer.update(expected[[key]], grad[None])
    table.push_gradients(keys, grads, 1)
    np.testing.assert_array_equal(table.pull_state(every_key(config)), expected)
    np.testing.assert_array_equal(
        table.pull_weights(every_key(config)), optimizer.weights(expected)
    )


def test_differences_are_added_repeated_keys_too() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    before = table.pull_state(every_key(PLAIN))
    keys = np.array([5, 5, 20], np.uint64)
    table.push_differences(keys, np.ones((3, 6), np.float32), 1)
    before[5] += 2
    before[20] += 1
    np.testing.assert_allclose(table.pull_state(every_key(PLAIN)), before, rtol=1e-6)


def test_changes_are_listed_once_each_after_a_sequence_number() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    grads = np.ones((2, 3), np.float32)
    table.push_gradients(np.array([1, 2], np.uint64), grads, 1)
    table.push_gradients(np.array([2, 7], np.uint64), grads, 2)
    found = table.changed_keys(1)
    assert found is not None
    assert sorted(found.tolist()) == [2, 7]
    table.clear(3)
    assert table.changed_keys(2) is None
    np.testing.assert_array_equal(
        table.pull_weights(every_key(PLAIN)),
        DenseTable(PLAIN, 8, ALL).pull_weights(every_key(PLAIN)),
    )


@given(shards=st.lists(st.integers(0, 2), min_size=8, max_size=8), rows=st.integers(1, 60))
def test_buckets_move_between_tables_without_a_change_of_any_row(
    shards: list[int], rows: int
) -> None:
    config = replace(PLAIN, rows=rows)
    source = DenseTable(config, 8, ALL)
    keys = every_key(config)
    source.push_gradients(keys, np.ones((rows, 3), np.float32), 1)
    expected = source.pull_state(keys)
    targets = [DenseTable(config, 8, np.empty(0, np.int32)) for _ in range(3)]
    for shard, target in enumerate(targets):
        buckets = np.flatnonzero(np.array(shards) == shard)
        target.import_rows(*source.scan(buckets), 2)
        target.add_buckets(buckets)
        source.drop_buckets(buckets)
    assert len(source) == 0
    assert sum(map(len, targets)) == rows
    for shard, target in enumerate(targets):
        own = keys[np.array(shards)[buckets_of_keys(keys, 8, rows)] == shard]
        np.testing.assert_array_equal(target.pull_state(own), expected[own.astype(int)])
        np.testing.assert_array_equal(target.scan(target.buckets)[0], own)


def test_a_row_whose_bucket_moved_away_is_refused_not_invented() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    table.drop_buckets(buckets_of_keys(np.array([9], np.uint64), 8, 21))
    with pytest.raises(ParameterServerError, match="'emb': row 9 lies in a bucket that is not"):
        table.pull_weights(np.array([0, 9], np.uint64))
    with pytest.raises(ParameterServerError, match="bucket 3 is not here"):
        table.scan(np.array([3]))


@pytest.mark.parametrize("key", [21, 2**63, 2**64 - 1])
def test_keys_beyond_the_last_row_are_refused_and_nothing_is_stored(key: int) -> None:
    table = DenseTable(PLAIN, 8, ALL)
    keys = np.array([0, key], np.uint64)
    before = table.pull_state(every_key(PLAIN))
    message = rf"table 'emb' has rows 0 … 20 \(TableConfig\(rows=21\)\), got key {key}"
    for act in (
        lambda: table.pull_weights(keys),
        lambda: table.push_gradients(keys, np.ones((2, 3), np.float32), 1),
        lambda: table.push_differences(keys, np.ones((2, 6), np.float32), 1),
        lambda: table.import_rows(keys, np.zeros((2, 6), np.uint32), 1),
    ):
        with pytest.raises(ParameterServerError, match=message):
            act()
    np.testing.assert_array_equal(table.pull_state(every_key(PLAIN)), before)


def test_an_empty_batch_is_fine() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    none = np.empty(0, np.uint64)
    table.push_gradients(none, np.empty((0, 3), np.float32), 1)
    assert table.pull_weights(none).shape == (0, 3)
    assert table.pull_state(none).shape == (0, 6)
    table.import_rows(none, np.empty((0, 6), np.uint32), 1)


def test_a_snapshot_is_the_table_at_one_moment_whatever_is_written_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("weiml.ps.tables.dense_snapshots._CHUNK_ROWS", 4)
    table = DenseTable(PLAIN, 8, ALL)
    keys = every_key(PLAIN)
    few = keys[buckets_of_keys(keys, 8, 21) != 7]
    expected, _ = table.export_rows(keys)
    writes = [
        lambda: table.push_gradients(keys, np.ones((21, 3), np.float32), 1),
        lambda: table.clear(2),
        lambda: table.drop_buckets(np.array([7])),
        lambda: table.import_rows(few, np.ones((len(few), 6), np.uint32), 3),
    ]
    found: dict[int, np.ndarray] = {}
    with table.begin_snapshot() as snapshot:
        while (chunk := snapshot.next_chunk()) is not None:
            found |= dict(zip(chunk[0].tolist(), chunk[1], strict=True))
            if writes:
                writes.pop(0)()
        assert snapshot.nbytes == 0
    assert not writes
    assert snapshot.rows == 21
    np.testing.assert_array_equal(np.stack([found[key] for key in range(21)]), expected)


def test_a_snapshot_copies_only_what_is_written_before_it_is_read() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    snapshot = table.begin_snapshot()
    assert snapshot.nbytes == 0
    key = np.array([9], np.uint64)
    table.push_gradients(key, np.ones((1, 3), np.float32), 1)
    table.push_gradients(key, np.ones((1, 3), np.float32), 2)
    bucket = buckets_of_keys(key, 8, 21)
    assert snapshot.nbytes == table.scan(bucket)[1].nbytes
    snapshot.close()
    snapshot.close()
    assert snapshot.next_chunk() is None


def test_statistics_are_kept_in_the_row_where_the_table_asks_for_them() -> None:
    config = replace(PLAIN, statistics=("count", "last_seen", "shows", "clicks"))
    table = DenseTable(config, 8, ALL)
    keys = np.array([4, 5], np.uint64)
    table.push_gradients(keys, np.ones((2, 3), np.float32), 1, step=9)
    ones = np.ones(2, np.float32)
    table.push_statistics(keys[1:], ones[1:] * 3, ones[1:], 2, step=10)
    payload, _ = table.export_rows(keys)
    count, seen = (config.statistic_offset(name) for name in ("count", "last_seen"))
    assert payload[:, count].tolist() == [1, 1]
    assert payload[:, seen].tolist() == [9, 10]
    shows = payload[:, config.statistic_offset("shows")].copy().view(np.float32)
    assert shows.tolist() == [0.0, 3.0]


def test_weights_may_be_kept_in_bfloat16() -> None:
    exact = DenseTable(PLAIN, 8, ALL)
    halved = DenseTable(replace(PLAIN, weights="bfloat16"), 8, ALL)
    keys = every_key(PLAIN)
    for table in (exact, halved):
        table.push_gradients(keys, np.ones((21, 3), np.float32), 1)
    np.testing.assert_allclose(
        halved.pull_weights(keys), exact.pull_weights(keys), rtol=2**-6, atol=2**-7
    )
    assert halved.scan(ALL)[1].nbytes < exact.scan(ALL)[1].nbytes


@pytest.mark.parametrize("knob", [{"capacity": 5}, {"expiry": ExpiryConfig(min_norm=0.1)}])
def test_a_dense_table_takes_no_rule_for_rows_that_come_and_go(knob: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(knob))):
        replace(PLAIN, **knob)


def test_what_only_sparse_tables_do_is_refused() -> None:
    table = DenseTable(PLAIN, 8, ALL)
    key = np.array([1], np.uint64)
    for act in (
        lambda: table.delete(key, 1),
        lambda: table.remove_rows(key, 1),
        lambda: table.expire(1, step=2, now_s=0.0),
    ):
        with pytest.raises(ParameterServerError, match="'emb' is dense"):
            act()
    with pytest.raises(ConfigError, match="is sparse"):
        DenseTable(replace(PLAIN, rows=None), 8, ALL)
