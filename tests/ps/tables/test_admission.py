"""Admission: which keys get rows, and that a stand-by knows what the filter knows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.ps.optimizers import SGD, Adagrad
from weiml.ps.partition import buckets_of_keys
from weiml.ps.tables.admission import AdmissionConfig, AdmissionFilter, make_filter
from weiml.ps.tables.sparse import SparseTable, TableConfig

COUNT = AdmissionConfig(kind="count", min_count=3)
CHANCE = AdmissionConfig(kind="probability", probability=0.25)
BLOOM = AdmissionConfig(kind="bloom", min_count=3, expected_keys=2000)
ALL = [COUNT, CHANCE, BLOOM]


def make(admission: AdmissionConfig, num_buckets: int = 16, **fields: Any) -> SparseTable:
    config = TableConfig("t", optimizer=SGD(lr=1.0), admission=admission, **fields)
    return SparseTable(config, num_buckets)


def ones(keys: Any) -> np.ndarray:
    return np.ones((len(keys), 1), np.float32)


pushes = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), max_size=10), max_size=15
)


@given(pushes=pushes, counted=st.booleans())
@pytest.mark.parametrize("kind", ["count", "bloom"])
def test_a_key_gets_its_row_at_the_nth_occurrence(
    pushes: list[list[tuple[int, int]]], counted: bool, kind: Any
) -> None:
    # So few keys do not collide in a filter for a thousand.
    table = make(AdmissionConfig(kind=kind, min_count=3, expected_keys=1000), 2)
    seen: Counter[int] = Counter()
    weights: dict[int, float] = {}
    dropped = 0
    for sequence, push in enumerate(pushes, 1):
        keys = np.array([key for key, _ in push], np.uint64)
        times = np.array([n for _, n in push], np.float32)
        table.push_gradients(keys, -ones(keys), sequence, counts=times if counted else None)
        for key, n in push:
            seen[key] += n if counted else 1
            if seen[key] >= 3:
                weights[key] = weights.get(key, 0.0) + 1.0
            else:
                dropped += 1
    everything = np.arange(13, dtype=np.uint64)
    found = table.pull_weights(everything)[:, 0]
    if counted:  # then a gradient is the sum over examples, which the optimizer tempers
        assert (found > 0).tolist() == [key in weights for key in range(13)]
    else:
        assert found.tolist() == [weights.get(key, 0.0) for key in range(13)]
    assert len(table) == len(weights)
    assert table.not_admitted == dropped
    changed = table.changed_keys(0)
    assert changed is not None
    assert set(changed.tolist()) == set(weights)


def test_keys_without_a_row_are_pulled_as_zeros() -> None:
    config = TableConfig("t", dim=2, optimizer=Adagrad(), init_scale=1.0, admission=COUNT)
    table = SparseTable(config)
    keys = np.arange(4, dtype=np.uint64)
    assert (table.pull_weights(keys) == 0).all()
    # A worker trains on such a state: it must be one that can be trained.
    assert (table.pull_state(keys) == Adagrad().initial_state(np.zeros((4, 2), np.float32))).all()
    for sequence in (1, 2, 3):
        table.push_gradients(keys, np.zeros((4, 2), np.float32), sequence)
    assert (table.pull_weights(keys) != 0).all()


def test_a_deleted_key_begins_to_count_anew() -> None:
    table = make(COUNT)
    key = np.array([7], np.uint64)
    for sequence in (1, 2, 3):
        table.push_gradients(key, ones(key), sequence)
    assert table.delete(key, 4) == 1
    for sequence in (5, 6):
        table.push_gradients(key, ones(key), sequence)
    assert len(table) == 0
    table.push_gradients(key, ones(key), 7)
    assert len(table) == 1


def test_statistics_and_functions_respect_admission() -> None:
    table = make(COUNT, statistics=("shows",))
    keys = np.array([1, 2], np.uint64)
    table.import_rows(keys[:1], np.zeros((1, 2), np.uint32), 1)
    for sequence in (2, 3, 4, 5):
        table.push_statistics(keys, np.ones(2, np.float32), np.zeros(2, np.float32), sequence)
    payload, present = table.export_rows(keys)
    assert present.tolist() == [True, False]
    assert payload[0, 1:].view(np.float32).tolist() == [4.0]
    for sequence in (6, 7):
        assert (table.locate_or_insert(keys, sequence) == 0).tolist() == [False, True]
    assert (table.locate_or_insert(keys, 8) != 0).all()


def test_each_occurrence_has_the_same_chance() -> None:
    admission = make_filter(CHANCE, 16)
    keys = np.arange(20_000, dtype=np.uint64)
    once = np.ones(keys.size, np.int64)
    first = admission.admit(keys, 1, once)
    assert first.mean() == pytest.approx(0.25, abs=0.015)
    assert np.array_equal(first, admission.admit(keys, 1, once))
    second = admission.admit(keys, 2, once)
    assert (first & second).mean() == pytest.approx(0.0625, abs=0.01)
    assert admission.admit(keys, 3, 4 * once).mean() == pytest.approx(1 - 0.75**4, abs=0.015)
    assert admission.admit(keys, 3, 2**31 * once).all()


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_a_full_bloom_filter_takes_few_unseen_keys_for_seen_ones(
    rate: float, rng: np.random.Generator
) -> None:
    config = AdmissionConfig(
        kind="bloom", min_count=2, expected_keys=20_000, false_positive_rate=rate
    )
    admission = make_filter(config, 16)
    keys = np.unique(rng.integers(0, 2**63, 40_000).astype(np.uint64))
    rng.shuffle(keys)
    once = np.ones(20_000, np.int64)
    early = admission.admit(keys[:20_000], 1, once)
    assert early.mean() < rate
    assert admission.admit(keys[:20_000], 2, once).all(), "it never counts too few"
    late = admission.admit(keys[20_000:22_000], 3, once[:2000])
    assert 0.3 * rate < late.mean() < 1.5 * rate


def test_a_bloom_filter_forgets_what_was_rare_long_ago(rng: np.random.Generator) -> None:
    config = AdmissionConfig(kind="bloom", min_count=2, expected_keys=2000)
    admission = make_filter(config, 4)
    once = np.ones(500, np.int64)
    admitted = []
    for sequence in range(1, 101):
        keys = rng.integers(0, 2**63, 500).astype(np.uint64)
        admitted.append(admission.admit(keys, sequence, once).mean())
    assert max(admitted) < 0.03
    assert admission.extras()["cells"].size < 12 * 2500  # and it has not grown


def test_a_bloom_filter_is_as_large_as_its_error_asks_for() -> None:
    config = AdmissionConfig(kind="bloom", expected_keys=1_000_000)
    small = make_filter(config, 16).extras(np.empty(0, np.int64))
    assert small["cells"].dtype == np.uint8
    assert 9.5e6 < 16 * small["cells"].shape[1] < 10e6  # 9.6 cells a key
    many = AdmissionConfig(kind="bloom", expected_keys=1000, min_count=300)
    assert make_filter(many, 4).extras()["cells"].dtype == np.uint16


def test_the_choice_does_not_depend_on_the_number_of_shards(rng: np.random.Generator) -> None:
    config = AdmissionConfig(kind="bloom", min_count=2, expected_keys=3000)
    whole, halves = make(config), [make(config), make(config)]
    for sequence in range(1, 30):
        keys = rng.integers(0, 20_000, 1000).astype(np.uint64)
        whole.push_gradients(keys, ones(keys), sequence)
        upper = _bucket(keys) >= 8
        for half, part in zip(halves, (keys[~upper], keys[upper]), strict=True):
            half.push_gradients(part, ones(part), sequence)
    assert len(whole) == sum(map(len, halves))
    everything = np.arange(20_000, dtype=np.uint64)
    both = sum(half.pull_weights(everything) for half in halves)
    assert np.array_equal(whole.pull_weights(everything), both)


def _bucket(keys: np.ndarray) -> np.ndarray:
    return buckets_of_keys(keys, 16)


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.kind)
@pytest.mark.parametrize("since", [0, 12, 20])
def test_a_stand_by_that_follows_decides_alike(
    config: AdmissionConfig, since: int, rng: np.random.Generator
) -> None:
    lead, follower = make_filter(config, 16), make_filter(config, 16)
    for sequence in range(1, 41):
        keys = rng.integers(0, 3000, 200).astype(np.uint64)
        once = np.ones(keys.size, np.int64)
        lead.admit(keys, sequence, once)
        if sequence == since:
            follower.load(lead.extras(), sequence)
    follower.load(lead.delta(since), 40)
    alike(lead, follower)


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.kind)
def test_a_stand_by_that_is_told_after_each_push_decides_alike(
    config: AdmissionConfig, rng: np.random.Generator
) -> None:
    lead, follower = make_filter(config, 4), make_filter(config, 4)
    for sequence in range(1, 61):
        keys = rng.integers(0, 6000, 100).astype(np.uint64)
        lead.admit(keys, sequence, np.ones(100, np.int64))
        follower.load(lead.delta(sequence - 1), sequence)
    alike(lead, follower)
    # It has become the lead, and tells the next one, which must start with all it knows.
    next_one = make_filter(config, 4)
    next_one.load(follower.delta(0), 110)
    alike(follower, next_one, 200)


def alike(lead: AdmissionFilter, follower: AdmissionFilter, start: int = 100) -> None:
    ours, theirs = lead.extras(), follower.extras()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    rng = np.random.default_rng(1)
    for sequence in range(start, start + 10):
        keys = rng.integers(0, 6000, 500).astype(np.uint64)
        once = np.ones(500, np.int64)
        mine = lead.admit(keys, sequence, once)
        assert np.array_equal(mine, follower.admit(keys, sequence, once))


@pytest.mark.parametrize("config", [COUNT, BLOOM], ids=lambda config: config.kind)
@pytest.mark.parametrize("since", [0, 9])
def test_a_filter_tells_of_some_buckets_alone(config: AdmissionConfig, since: int) -> None:
    lead, follower, halves = (make_filter(config, 16) for _ in range(3))
    keys = np.arange(2000, dtype=np.uint64)
    once = np.ones(2000, np.int64)
    for sequence in range(1, 4):
        part = np.arange(sequence - 1, 2000, 3)
        lead.admit(keys[part], sequence, once[part])
    if since:  # from here on the log does not reach back
        lead.load(lead.extras(np.array([0])), since + 1)
    some, others = np.arange(0, 16, 2), np.arange(1, 16, 2)
    follower.load(lead.extras(others), 3)
    follower.load(lead.delta(since, some), 20)
    halves.load(lead.extras(some), 20)
    halves.load(lead.extras(others), 20)
    for each in (follower, halves):
        ours, theirs = lead.extras(), each.extras()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_counts_survive_another_number_of_buckets_and_blooms_begin_anew() -> None:
    keys = np.arange(500, dtype=np.uint64)
    once = np.ones(500, np.int64)
    for config, known in ((COUNT, True), (BLOOM, False)):
        lead, other = make_filter(config, 16), make_filter(config, 8)
        lead.admit(keys, 1, 2 * once)
        other.load(lead.extras(), 1)
        assert (other.admit(keys, 2, once) == known).all()


@pytest.mark.parametrize("config", [COUNT, BLOOM], ids=lambda config: config.kind)
def test_what_a_filter_knows_moves_with_its_buckets(config: AdmissionConfig) -> None:
    table, other = make(config), make(config)
    keys = np.arange(600, dtype=np.uint64)
    for sequence in (1, 2):
        table.push_gradients(keys, ones(keys), sequence)
    moving = np.array([2, 3, 9])
    other.load_extras(table.extras(moving), 3)
    table.drop_buckets(moving)
    for each in (table, other):
        each.push_gradients(keys, ones(keys), 4)
    moved = np.isin(_bucket(keys), moving)
    assert np.array_equal(table.export_rows(keys)[1], ~moved)
    assert np.array_equal(other.export_rows(keys)[1], moved)


def test_a_table_keeps_what_its_filter_knows_in_named_arrays(rng: np.random.Generator) -> None:
    for config in (COUNT, BLOOM):
        table, restored = make(config), make(config)
        keys = rng.integers(0, 900, 1500).astype(np.uint64)
        table.push_gradients(keys, ones(keys), 1)
        restored.import_rows(*table.scan(np.arange(16)), 5)
        restored.load_extras(table.extras())
        assert restored.filter_delta(0).keys() == table.extras().keys()
        for each in (table, restored):
            each.push_gradients(keys[::-1], ones(keys), 6)
        assert len(table) == len(restored)
        everything = np.arange(900, dtype=np.uint64)
        assert np.array_equal(table.pull_weights(everything), restored.pull_weights(everything))
    assert make(CHANCE).extras() == {}
    plain = SparseTable(TableConfig("t", optimizer=SGD()))
    assert plain.extras() == plain.filter_delta(0) == {}
    plain.load_extras({})


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"kind": "magic"}, "kind must be"),
        ({"min_count": 1}, "min_count must be 2"),
        ({"min_count": 70_000}, "65535"),
        ({"probability": 0.0}, "probability"),
        ({"kind": "bloom"}, "expected_keys"),
        ({"kind": "bloom", "expected_keys": 0}, "got 0"),
        ({"false_positive_rate": 1.0}, "false_positive_rate"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        AdmissionConfig(**fields)
