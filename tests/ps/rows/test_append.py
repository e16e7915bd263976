"""Rows that come sorted by hash are taken over at once, up to the first that is not new behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ps.rows.test_store import (
    array,
    check_layout,
    contents,
    hashes_of,
    keys_of,
    payload_of,
    some_keys,
)
from weiml.errors import ParameterServerError
from weiml.ps import SGD, SparseTable, TableConfig
from weiml.ps.rows.store import RowStore


def by_hash(keys: np.ndarray) -> np.ndarray:
    """Return the distinct keys in the order of a scan."""
    distinct = np.unique(keys)
    return distinct[np.argsort(hashes_of(distinct))]


def taken(store: RowStore, keys: np.ndarray, words: int = 2) -> int:
    return store.append(keys, payload_of(keys, words))


@settings(max_examples=150)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["sorted", "as is", "delete"]), some_keys), max_size=8
    ),
    num_buckets=st.sampled_from([2, 16]),
    words=st.sampled_from([1, 2, 3, 14]),
)
def test_what_is_appended_is_there_and_the_rest_is_untouched(
    steps: list[tuple[str, list[int]]], num_buckets: int, words: int
) -> None:
    store = RowStore(num_buckets, words)
    model: dict[int, tuple[int, ...]] = {}
    for what, listed in steps:
        keys = by_hash(array(listed)) if what == "sorted" else array(listed)
        if what == "delete":
            store.delete(keys)
            for key in listed:
                model.pop(key, None)
        else:
            done = store.append(keys, payload_of(keys, words))
            rows = map(tuple, payload_of(keys[:done], words).tolist())
            added = dict(zip(keys[:done].tolist(), rows, strict=True))
            assert len(added) == done
            assert not model.keys() & added.keys()
            model |= added
        assert contents(store) == model
        check_layout(store)


@pytest.mark.parametrize("piece", [1, 37, 1000, 20_000])
def test_a_scan_of_another_store_is_taken_whole(piece: int, rng: np.random.Generator) -> None:
    keys = by_hash(rng.integers(0, 2**64, 20_000, dtype=np.uint64))
    store = RowStore(16, 2)
    for start in range(0, len(keys), piece):
        part = keys[start : start + piece]
        assert taken(store, part) == len(part)
    check_layout(store)
    assert np.array_equal(store.scan(0, 16)[0], keys)
    assert np.array_equal(store.rows(store.find(keys)), payload_of(keys, 2))
    assert store.nbytes < 16 * len(keys) / 0.8 * 1.5


def test_it_stops_at_the_first_that_is_there_or_out_of_order() -> None:
    hashes = array([5, 9, 9 + 2**63, 11 + 2**63])
    store = RowStore(2, 2)
    assert taken(store, keys_of(hashes)) == 4
    assert taken(store, keys_of(array([9]))) == 0
    assert taken(store, keys_of(array([10, 11 + 2**63]))) == 1
    assert taken(store, keys_of(array([12, 11, 13]))) == 1
    assert taken(store, keys_of(array([14, 14]))) == 1
    assert taken(store, array([])) == 0
    expected = [5, 9, 10, 12, 14, 9 + 2**63, 11 + 2**63]
    assert store.scan(0, 2)[0].tolist() == keys_of(array(expected)).tolist()


def test_a_table_takes_sorted_rows_and_others_alike(rng: np.random.Generator) -> None:
    config = TableConfig("t", dim=2, optimizer=SGD())
    keys = rng.integers(0, 2**64, 5000, dtype=np.uint64)
    one, other = SparseTable(config), SparseTable(config)
    one.import_rows(keys, payload_of(keys), 1)
    scanned = one.scan(np.arange(1024))
    for start in range(0, 5000, 700):
        stop = start + 700
        other.import_rows(scanned[0][start:stop], scanned[1][start:stop], 1)
    again = other.scan(np.arange(1024))
    assert np.array_equal(again[0], scanned[0])
    assert np.array_equal(again[1], scanned[1])
    changed = scanned[0][::7]
    other.import_rows(changed, payload_of(changed) + np.uint32(1), 2)  # rows that are there
    assert np.array_equal(other.export_rows(changed)[0], payload_of(changed) + np.uint32(1))
    assert len(other) == 5000


def test_rows_taken_over_do_not_show_in_a_snapshot_begun_before(rng: np.random.Generator) -> None:
    table = SparseTable(TableConfig("t", dim=2, optimizer=SGD()))
    keys = by_hash(rng.integers(0, 2**64, 3000, dtype=np.uint64))
    table.import_rows(keys[::3], payload_of(keys[::3]), 1)
    snapshot = table.begin_snapshot()
    table.import_rows(keys[1::3], payload_of(keys[1::3]), 2)
    table.import_rows(keys[2::3][:500], payload_of(keys[2::3][:500]), 2)
    seen = []
    while (chunk := snapshot.next_chunk()) is not None:
        seen.append(chunk[0])
    assert np.array_equal(np.concatenate(seen), keys[::3])
    assert len(table) == 2500
    changed = table.changed_keys(1)
    assert changed is not None
    assert len(changed) == 1500


@settings(max_examples=60)
@given(
    before=some_keys,
    listed=some_keys,
    room=st.lists(st.integers(0, 60), min_size=16, max_size=16),
    words=st.sampled_from([1, 2, 14]),
)
def test_room_made_in_advance_changes_nothing_but_the_room(
    before: list[int], listed: list[int], room: list[int], words: int
) -> None:
    store = RowStore(16, words)
    store.append(by_hash(array(before)), payload_of(by_hash(array(before)), words))
    known = contents(store)
    store.reserve(np.array(room))
    assert contents(store) == known
    check_layout(store)
    keys = by_hash(np.setdiff1d(array(listed), array(before)))
    done = store.append(keys, payload_of(keys, words))
    rows = map(tuple, payload_of(keys[:done], words).tolist())
    assert contents(store) == known | dict(zip(keys[:done].tolist(), rows, strict=True))
    check_layout(store)


def test_rows_that_were_expected_come_without_a_move(rng: np.random.Generator) -> None:
    keys = by_hash(rng.integers(0, 2**64, 20_000, dtype=np.uint64))
    store = RowStore(16, 2)
    store.reserve(np.full(16, 20_000 // 16 + 200))
    nbytes = store.nbytes
    assert nbytes < 16 * len(keys) / 0.8 * 1.5
    homes = store.find(keys)
    for start in range(0, len(keys), 777):
        part = keys[start : start + 777]
        rows = payload_of(part, 2)
        part.flags.writeable = rows.flags.writeable = False
        assert store.append(part, rows) == len(part)
    assert store.nbytes == nbytes
    assert not homes.any()
    assert np.array_equal(store.rows(store.find(keys)), payload_of(keys, 2))
    check_layout(store)


def test_a_loaded_table_is_that_of_an_import_but_for_its_changes(rng: np.random.Generator) -> None:
    config = TableConfig("t", dim=2, optimizer=SGD())
    keys = rng.integers(0, 2**64, 50_000, dtype=np.uint64)
    one, other = SparseTable(config, 64), SparseTable(config, 64)
    one.import_rows(keys, payload_of(keys), 1)
    scanned = one.scan(np.arange(64))
    other.expect_rows(np.where(np.arange(64) < 50, len(keys) / 64, 0.0))
    reserved = other.nbytes
    other.load_rows(*scanned)
    assert reserved > 0.7 * other.nbytes
    again = other.scan(np.arange(64))
    assert np.array_equal(again[0], scanned[0])
    assert np.array_equal(again[1], scanned[1])
    changed = other.changed_keys(0)
    assert changed is not None
    assert not len(changed)
    with pytest.raises(ParameterServerError, match="do not fit 3 keys"):
        other.load_rows(keys[:3], scanned[1][:2])


def test_few_rows_get_no_room_in_advance() -> None:
    table = SparseTable(TableConfig("t", dim=2, optimizer=SGD()))
    empty = table.store.nbytes
    table.expect_rows(np.full(1024, 100.0))
    assert table.store.nbytes == empty
