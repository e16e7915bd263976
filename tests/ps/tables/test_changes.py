"""The change log against a dictionary of last changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.hashing import mix64, unmix64
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.changes import ChangeLog, hash_keys

keys_of_a_change = st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=30)
changes = st.lists(st.tuples(st.integers(0, 2), keys_of_a_change), max_size=40)


def expect(log: ChangeLog, last: dict[int, int], since: int) -> None:
    found = log.since(since)
    assert (found is None) == (since < log.floor)
    if found is not None:
        assert sorted(found.tolist()) == sorted(k for k, s in last.items() if s > since)
        hashes = hash_keys(found)
        assert (hashes[1:] > hashes[:-1]).all()


@given(changes=changes, room=st.sampled_from([256, 2000, 1 << 16]), dropped=st.integers(0, 40))
def test_the_log_lists_what_a_dictionary_of_last_changes_does(
    changes: list[tuple[int, list[int]]], room: int, dropped: int
) -> None:
    log = ChangeLog(room)
    last: dict[int, int] = {}
    sequence = 0
    for turn, (step, keys) in enumerate(changes):
        sequence += step
        log.add(sequence, np.array(keys, np.uint64))
        last |= dict.fromkeys(keys, sequence)
        if turn == dropped:
            gone = np.arange(8) % 2 == 0
            log.drop(gone)
            last = {k: s for k, s in last.items() if not gone[int(mix64(np.uint64(k))) >> 61]}
        for since in range(sequence + 2):
            expect(log, last, since)
    assert log.last == sequence


@given(
    changes=st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=40),
    room=st.sampled_from([256, 2000, 1 << 16]),
)
def test_the_log_of_a_dense_table_forgets_ranges_of_rows(
    changes: list[list[int]], room: int
) -> None:
    log = ChangeLog(room)
    last: dict[int, int] = {}
    for sequence, rows in enumerate(changes, 1):
        log.add(sequence, np.array(rows, np.uint64))
        last |= dict.fromkeys(rows, sequence)
    gone = np.arange(8) % 2 == 0
    log.drop(gone, rows=41)
    every = np.arange(41, dtype=np.uint64)
    lost = set(every[gone[buckets_of_keys(every, 8, 41)]].tolist())
    for since in range(len(changes) + 2):
        expect(log, {k: s for k, s in last.items() if k not in lost}, since)


def test_a_long_history_of_few_keys_is_kept_whole_in_little_room(rng: np.random.Generator) -> None:
    log = ChangeLog(1 << 20)
    last: dict[int, int] = {}
    for sequence in range(1, 400):
        keys = rng.integers(0, 20_000, 3000).astype(np.uint64)
        log.add(sequence, keys)
        last |= dict.fromkeys(keys.tolist(), sequence)
    assert log.floor == 0
    assert log.nbytes <= 1.3 * (1 << 20)
    for since in (0, 1, 200, 380, 398, 399):
        expect(log, last, since)


def test_a_log_that_is_full_forgets_the_oldest_and_says_so(rng: np.random.Generator) -> None:
    log = ChangeLog(1 << 20)  # room for 131,072 keys, less what finding repetitions takes
    last: dict[int, int] = {}
    for sequence in range(1, 300):
        keys = rng.integers(0, 2**63, 1000).astype(np.uint64)
        log.add(sequence, keys)
        last |= dict.fromkeys(keys.tolist(), sequence)
        assert sequence - 131 <= log.floor <= max(0, sequence - 90)
    assert log.nbytes <= 1.3 * (1 << 20)
    for since in (log.floor - 1, log.floor, log.floor + 1, 298, 299):
        expect(log, last, since)


def test_keys_that_begin_to_repeat_are_tidied_and_those_that_cease_to_are_not(
    rng: np.random.Generator,
) -> None:
    log = ChangeLog(1 << 20)
    last: dict[int, int] = {}
    for sequence in range(1, 700):
        few = 150 < sequence < 450
        keys = rng.integers(0, 8000 if few else 2**63, 1000).astype(np.uint64)
        log.add(sequence, keys)
        last |= dict.fromkeys(keys.tolist(), sequence)
        if sequence == 449:
            assert log.floor < 200  # 300,000 additions are in it
            expect(log, last, 200)
        if sequence % 37 == 0:
            expect(log, last, log.floor)
            expect(log, last, (log.floor + sequence) // 2)
        assert log.nbytes <= 1.1 * (1 << 20)
    assert 560 < log.floor < 620


def test_rare_keys_among_hot_ones_are_forgotten_exactly(rng: np.random.Generator) -> None:
    log = ChangeLog(1 << 18)
    last: dict[int, int] = {}
    floors, history = set(), []
    for sequence in range(1, 400):
        hot = rng.integers(0, 1000, 800).astype(np.uint64)
        rare = rng.integers(0, 2**63, 100).astype(np.uint64)
        keys = np.concatenate([hot, rare])
        log.add(sequence, keys)
        last |= dict.fromkeys(keys.tolist(), sequence)
        if log.floor not in floors:
            floors.add(log.floor)
            for since in (log.floor - 1, log.floor, log.floor + 1):
                expect(log, last, since)
        history.append(sequence - log.floor)
        assert log.nbytes <= 1.1 * (1 << 18)
    assert len(floors) > 3
    # As they are, the keys of 36 additions would fit.
    assert max(history[200:]) > 70
    assert np.mean(history[200:]) > 50


def test_a_bound_that_is_raised_holds_more(rng: np.random.Generator) -> None:
    log = ChangeLog(1 << 16)
    for sequence in range(1, 101):
        if sequence == 50:
            log.max_bytes = 1 << 22
        log.add(sequence, rng.integers(0, 2**63, 1000).astype(np.uint64))
    assert 40 <= log.floor < 52


def test_more_keys_at_once_than_the_log_holds_mean_that_anything_may_have_changed() -> None:
    log = ChangeLog(1 << 16)
    log.add(3, np.arange(5000, dtype=np.uint64))
    assert log.since(2) is None
    log.add(4, np.arange(5, dtype=np.uint64))
    assert log.floor == 3
    assert log.since(3) is not None
    assert sorted(log.since(3).tolist()) == [0, 1, 2, 3, 4]  # type: ignore[union-attr]


def test_a_reset_raises_the_floor_and_keeps_what_came_later() -> None:
    log = ChangeLog()
    for sequence in (2, 4, 6):
        log.add(sequence, np.array([sequence], np.uint64))
    log.reset(4)
    assert log.since(3) is None
    assert log.since(4) == np.array([6], np.uint64)
    log.reset(9)
    assert log.since(8) is None
    assert log.since(9) is not None
    assert log.since(9).size == 0  # type: ignore[union-attr]


def test_sequence_numbers_that_fall_are_a_mistake_of_the_caller() -> None:
    log = ChangeLog()
    log.add(5, np.array([1], np.uint64))
    with pytest.raises(AssertionError, match="must not fall"):
        log.add(4, np.array([1], np.uint64))


def test_the_caller_may_use_its_array_again() -> None:
    log = ChangeLog()
    keys = np.array([1, 2], np.uint64)
    log.add(1, keys)
    keys[:] = 9
    assert set(log.since(0).tolist()) == {1, 2}  # type: ignore[union-attr]


@pytest.mark.parametrize("often", [1, 2, 50])
def test_any_key_comes_once_and_by_hash(often: int, rng: np.random.Generator) -> None:
    keys = rng.integers(0, 2**64 - 1, 100, np.uint64)
    keys[:2] = 0, 2**64 - 1
    keys[2] = unmix64(np.uint64(0))
    keys[3] = unmix64(np.uint64(2**64 - 1))
    log = ChangeLog()
    for turn in range(often):
        log.add(turn + 1, rng.permutation(keys))
    found = log.since(0)
    assert found is not None
    hashes = hash_keys(found)
    assert hashes[3] == mix64(found[3])
    assert np.array_equal(found, np.unique(keys)[np.argsort(hash_keys(np.unique(keys)))])
    assert (np.diff(hashes) > 0).all()
