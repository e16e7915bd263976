"""A sparse table against a dictionary of rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.config import from_mapping
from weiml.errors import ConfigError, ParameterServerError
from weiml.ps.optimizers import ASGD, FTRL, SGD, Adagrad, Adam, Momentum, Optimizer
from weiml.ps.tables.admission import AdmissionConfig
from weiml.ps.tables.config import STATISTICS
from weiml.ps.tables.expiry import ExpiryConfig
from weiml.ps.tables.sparse import SparseTable, TableConfig

NO_KEYS = np.empty(0, np.uint64)


@dataclass
class Row:
    state: np.ndarray
    count: int = 0
    last_seen: int = 0
    shows: float = 0.0
    clicks: float = 0.0


@dataclass
class Model:
    """A table as a dictionary, one key at a time through the optimizer's pure functions."""

    config: TableConfig
    rows: dict[int, Row] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    def initial(self, key: int) -> np.ndarray:
        return np.asarray(SparseTable(self.config, 2).pull_state(np.array([key], np.uint64))[0])

    def touch(self, key: int, sequence: int, step: int) -> Row:
        row = self.rows.setdefault(key, Row(self.initial(key)))
        row.last_seen = max(row.last_seen, step)
        self.last[key] = sequence
        return row

    def push(self, keys: list[int], grads: np.ndarray, sequence: int, step: int) -> None:
        for key, grad in zip(keys, grads, strict=True):
            row = self.touch(key, sequence, step)
            row.state = self.config.optimizer.update(row.state[None], grad[None])[0]
            row.count += 1

    def add(self, keys: list[int], differences: np.ndarray, sequence: int, step: int) -> None:
        for key, difference in zip(keys, differences, strict=True):
            row = self.touch(key, sequence, step)
            row.state = row.state + difference
            row.count += 1

    def count(self, keys: list[int], shows: np.ndarray, sequence: int, step: int) -> None:
        for key, show in zip(keys, shows, strict=True):
            row = self.touch(key, sequence, step)
            row.shows += float(show)
            row.clicks += float(show) / 2

    def put(self, keys: list[int], state: np.ndarray, sequence: int, step: int) -> None:
        for key, values in zip(keys, state, strict=True):
            self.touch(key, sequence, step).state = values

    def delete(self, keys: list[int], sequence: int) -> None:
        for key in keys:
            if self.rows.pop(key, None) is not None:
                self.last[key] = sequence


some_keys = st.lists(st.integers(0, 6) | st.sampled_from([2**63, 2**64 - 1]), max_size=12)
acts = st.lists(
    st.tuples(st.sampled_from(["push", "push", "add", "count", "put", "delete"]), some_keys),
    max_size=12,
)
optimizers: list[Optimizer] = [SGD(lr=0.5), FTRL(l1=0.01), Adagrad()]


@given(acts=acts, optimizer=st.sampled_from(optimizers), dim=st.sampled_from([1, 3]))
@settings(max_examples=60)
def test_a_table_holds_what_a_dictionary_does(
    acts: list[tuple[str, list[int]]], optimizer: Any, dim: int
) -> None:
    config = TableConfig("t", dim=dim, optimizer=optimizer, init_scale=0.3, statistics=STATISTICS)
    table, model = SparseTable(config, 4), Model(config)
    rng = np.random.default_rng(len(acts))
    for sequence, (act, keys) in enumerate(acts, 1):
        flat, step = np.array(keys, np.uint64), 2 * sequence
        values = rng.normal(size=(len(keys), config.width)).astype(np.float32)
        if act == "push":
            table.push_gradients(flat, values[:, :dim], sequence, step=step)
            model.push(keys, values[:, :dim], sequence, step)
        elif act == "add":
            table.push_differences(flat, abs(values), sequence, step=step)
            model.add(keys, abs(values), sequence, step)
        elif act == "count":
            shows = np.arange(len(keys), dtype=np.float32)
            table.push_statistics(flat, shows, shows / 2, sequence, step=step)
            model.count(keys, shows, sequence, step)
        elif act == "put":
            table.put_state(flat, abs(values), sequence, step=step)
            model.put(keys, abs(values), sequence, step)
        else:
            assert table.delete(flat, sequence) == len(set(keys) & set(model.rows))
            model.delete(keys, sequence)
        expect(table, model, sequence)


def expect(table: SparseTable, model: Model, sequence: int) -> None:
    keys = np.array([*model.rows, 77], np.uint64)
    states = np.stack([*(row.state for row in model.rows.values()), model.initial(77)])
    assert np.array_equal(table.pull_state(keys), states)
    assert np.array_equal(table.pull_weights(keys), table.config.optimizer.weights(states))
    payload, present = table.export_rows(keys)
    assert present.tolist() == [True] * len(model.rows) + [False]
    assert len(table) == len(model.rows)
    numbers = payload[:-1, table.config.width :]
    assert numbers[:, 0].tolist() == [row.count for row in model.rows.values()]
    assert numbers[:, 1].tolist() == [row.last_seen for row in model.rows.values()]
    clicks = np.ascontiguousarray(numbers[:, 2:]).view(np.float32)
    assert clicks[:, 0].tolist() == [row.shows for row in model.rows.values()]
    assert clicks[:, 1].tolist() == [row.clicks for row in model.rows.values()]
    for since in range(sequence + 1):
        found = table.changed_keys(since)
        assert found is not None
        assert sorted(found.tolist()) == sorted(k for k, s in model.last.items() if s > since)


def test_training_agrees_with_double_precision(rng: np.random.Generator) -> None:
    table = SparseTable(TableConfig("t", dim=2, optimizer=SGD(lr=0.1)), 16)
    rows = np.zeros((500, 2))
    for sequence in range(1, 40):
        keys = rng.integers(0, 500, 300)
        grads = rng.normal(size=(300, 2)).astype(np.float32)
        table.push_gradients(keys.astype(np.uint64), grads, sequence)
        np.subtract.at(rows, keys, 0.1 * grads.astype(np.float64))
    assert np.allclose(table.pull_weights(np.arange(500, dtype=np.uint64)), rows, atol=1e-5)


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_how_keys_are_cut_into_chunks_changes_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, weights: Any
) -> None:
    config = TableConfig("t", dim=3, optimizer=Adagrad(), init_scale=0.1, weights=weights)
    keys = rng.integers(0, 3000, 20_000).astype(np.uint64)
    grads = rng.normal(size=(20_000, 3)).astype(np.float32)
    whole, pieces = SparseTable(config, 16), SparseTable(config, 16)
    monkeypatch.setattr(pieces, "_chunk", 777)
    for table in (whole, pieces):
        table.push_gradients(keys, grads, 1)
        table.push_differences(keys[:9000], abs(np.hstack([grads, grads]))[:9000], 2)
    everything = np.arange(4000, dtype=np.uint64)
    assert np.array_equal(whole.pull_state(everything), pieces.pull_state(everything))
    assert np.array_equal(whole.export_rows(everything)[0], pieces.export_rows(everything)[0])
    assert np.array_equal(whole.changed_keys(1), pieces.changed_keys(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", [FTRL(l1=0.01), Adagrad(), ASGD()])
@pytest.mark.parametrize("dim", [1, 3])
def test_rows_visited_in_cache_learn_as_those_that_are_located_first(
    rng: np.random.Generator, optimizer: Any, dim: int
) -> None:
    config = TableConfig("t", dim=dim, optimizer=optimizer, init_scale=0.1)
    visited, located = SparseTable(config, 16), SparseTable(config, 16)
    located.begin_snapshot()  # of which rows are set aside before they are written
    everything = np.arange(60_000, dtype=np.uint64)
    for sequence in range(1, 6):
        # Repeated keys, and ever fewer new ones, at first everywhere, then here and there.
        keys = rng.integers(0, 10_000 * sequence if sequence < 5 else 60_000, 40_000, np.uint64)
        grads = rng.normal(size=(keys.size, dim)).astype(np.float32)
        differences = abs(rng.normal(size=(keys.size, config.width))).astype(np.float32)
        for table in (visited, located):
            table.push_gradients(keys, grads, 2 * sequence)
            if optimizer.sums:
                table.push_differences(keys[::-1], differences, 2 * sequence + 1)
        state = visited.pull_state(everything)
        assert state.tobytes() == located.pull_state(everything).tobytes()
        weights = visited.pull_weights(everything)
        assert weights.tobytes() == optimizer.weights(state).tobytes()
        changed = visited.changed_keys(2 * sequence - 1)
        assert changed is not None
        assert set(changed.tolist()) == set(keys.tolist())
    assert len(visited) == len(located)


def test_new_rows_depend_on_seed_key_and_column_only() -> None:
    config = TableConfig("t", dim=4, optimizer=Adagrad(), init_scale=0.2, seed=9)
    keys = np.random.default_rng(0).integers(0, 2**64 - 1, 4000, np.uint64)
    first = SparseTable(config).pull_weights(keys)
    again = SparseTable(config, 8)
    again.push_gradients(keys[::-1][:3000], np.zeros((3000, 4), np.float32), 1)
    assert np.array_equal(again.pull_weights(keys), first)
    other = SparseTable(replace(config, seed=10)).pull_weights(keys)
    assert (other != first).mean() > 0.99
    assert len(np.unique(first)) > 0.9 * first.size
    assert abs(first.mean()) < 0.005
    assert first.std() == pytest.approx(0.2, rel=0.03)
    assert np.abs(np.corrcoef(first.T) - np.eye(4)).max() < 0.06


def test_growth_keeps_rows_and_their_last_change(rng: np.random.Generator) -> None:
    config = TableConfig("t", dim=3, optimizer=FTRL(), init_scale=0.1)
    table = SparseTable(config)
    keys = rng.permutation(30_000).astype(np.uint64)
    grads = rng.normal(size=(30_000, 3)).astype(np.float32)
    for sequence, part in enumerate(np.array_split(np.arange(30_000), 10), 1):
        table.push_gradients(keys[part], grads[part], sequence)
    alone = SparseTable(config, 2)
    alone.push_gradients(keys, grads, 1)
    assert np.array_equal(table.pull_state(keys), alone.pull_state(keys))
    changed = table.changed_keys(7)
    assert changed is not None
    assert sorted(changed.tolist()) == sorted(keys[21_000:].tolist())
    assert table.nbytes > 30_000 * 6 * 4


def test_pulling_inserts_nothing() -> None:
    table = SparseTable(TableConfig("t", dim=2, optimizer=Adagrad(), init_scale=1.0))
    keys = np.arange(5, dtype=np.uint64)
    assert (table.pull_weights(keys) != 0).all()
    assert table.pull_weights(NO_KEYS).shape == (0, 2)
    assert table.pull_state(NO_KEYS).shape == (0, 4)
    assert len(table) == 0
    assert (table.locate(keys) == 0).all()


def test_statistics_that_are_not_asked_for_take_no_room() -> None:
    plain = TableConfig("t", optimizer=FTRL())
    assert plain.payload_words == plain.width == 2
    counted = replace(plain, statistics=("clicks", "count"))
    assert counted.payload_words == 4
    assert counted.statistic_offset("count") == 2
    assert counted.statistic_offset("clicks") == 3
    assert counted.statistic_offset("shows") is None
    table = SparseTable(counted)
    keys = np.array([5, 5, 9], np.uint64)
    table.push_statistics(keys, np.ones(3, np.float32), np.ones(3, np.float32), 1)
    counts = np.array([3, 1, 0], np.float32)
    table.push_gradients(keys, np.zeros((3, 1), np.float32), 2, counts=counts)
    payload, _ = table.export_rows(np.array([5, 9], np.uint64))
    assert payload[:, 2].tolist() == [4, 1]
    assert payload[:, 3].copy().view(np.float32).tolist() == [2.0, 1.0]


def test_a_row_is_never_seen_earlier_than_it_was() -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD(), statistics=("last_seen",)))
    keys, grads = np.array([1], np.uint64), np.zeros((1, 1), np.float32)
    for sequence, step in enumerate((5, 3, 2**40), 1):
        table.push_gradients(keys, grads, sequence, step=step)
        seen = table.export_rows(keys)[0][0, 1]
        assert seen == (5, 5, 2**32 - 1)[sequence - 1]


def test_whole_rows_move_from_table_to_table(rng: np.random.Generator) -> None:
    config = TableConfig("t", dim=2, optimizer=Adagrad(), statistics=STATISTICS)
    table, other = SparseTable(config, 8), SparseTable(config, 8)
    keys = rng.permutation(2000).astype(np.uint64)
    table.push_gradients(keys, rng.normal(size=(2000, 2)).astype(np.float32), 1, step=4)
    buckets = np.array([0, 1, 5], np.int32)
    moved, payload = table.scan(buckets)
    assert 500 < moved.size < 1000
    other.import_rows(moved, payload, 6)
    rows, present = other.export_rows(keys)
    assert np.array_equal(rows[present], table.export_rows(keys)[0][present])
    assert set(keys[present].tolist()) == set(moved.tolist())
    table.drop_buckets(buckets)
    assert len(table) + len(other) == 2000
    assert not table.export_rows(moved)[1].any()
    left = table.changed_keys(0)
    assert left is not None
    assert not set(left.tolist()) & set(moved.tolist())
    assert left.size == len(table)
    assert table.scan(np.empty(0, np.int32))[1].shape == (0, config.payload_words)


def test_removed_and_deleted_keys_stay_in_the_list_of_changes() -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD()))
    keys = np.arange(4, dtype=np.uint64)
    table.push_gradients(keys, np.ones((4, 1), np.float32), 1)
    table.remove_rows(keys[:1], 2)
    assert table.delete(np.array([1, 1, 99], np.uint64), 3) == 1
    assert set(table.changed_keys(1).tolist()) == {0, 1}  # type: ignore[union-attr]
    assert table.export_rows(keys)[1].tolist() == [False, False, True, True]
    table.clear(4)
    assert len(table) == 0
    assert table.changed_keys(3) is None


def test_rows_are_trained_in_place_at_their_addresses() -> None:
    table = SparseTable(TableConfig("t", dim=2, optimizer=SGD(lr=1.0), init_scale=0.5))
    keys = np.array([3, 4], np.uint64)
    before = table.pull_weights(keys)
    addresses = table.locate_or_insert(keys, 1, 0)
    table.config.optimizer.apply(addresses, np.ones((2, 2), np.float32))
    assert np.array_equal(table.pull_weights(keys), before - 1)
    missing = table.locate_or_insert(np.array([3, 8], np.uint64), 2, 0, insert=False)
    assert missing[0] != 0
    assert missing[1] == 0
    assert table.changed_keys(1).tolist() == [3]  # type: ignore[union-attr]
    assert len(table) == 2


def test_read_only_and_strided_arrays_are_taken() -> None:
    table = SparseTable(TableConfig("t", dim=2, optimizer=SGD(lr=1.0)))
    keys = np.arange(8, dtype=np.uint64)[::2]
    grads = np.ones((4, 4), np.float32)[:, ::2]
    keys.flags.writeable = grads.flags.writeable = False
    table.push_gradients(keys, grads, 1)
    table.push_differences(keys, grads, 2)
    assert table.pull_weights(keys).tolist() == [[0.0, 0.0]] * 4


def test_a_table_of_many_long_rows_works(rng: np.random.Generator) -> None:
    table = SparseTable(TableConfig("t", dim=256, optimizer=Adagrad(), init_scale=0.1), 4)
    keys = rng.permutation(1500).astype(np.uint64)
    before = table.pull_weights(keys)
    grads = rng.normal(size=(1500, 256)).astype(np.float32)
    table.push_gradients(keys, grads, 1)
    state = table.config.optimizer.initial_state(before)
    assert np.array_equal(table.pull_state(keys), table.config.optimizer.update(state, grads))


def test_arrays_of_another_shape_are_refused_before_anything_happens() -> None:
    table = SparseTable(TableConfig("users", dim=2, optimizer=Adagrad()))
    keys = np.arange(3, dtype=np.uint64)
    with pytest.raises(ParameterServerError, match="'users'.*gradients.*(3, 2).*(3, 4)"):
        table.push_gradients(keys, np.zeros((3, 4), np.float32), 1)
    with pytest.raises(ParameterServerError, match="differences must have shape"):
        table.push_differences(keys, np.zeros((3, 2), np.float32), 1)
    grads, counts = np.zeros((3, 2), np.float32), np.ones(2, np.float32)
    with pytest.raises(ParameterServerError, match="counts must have shape"):
        table.push_gradients(keys, grads, 1, counts=counts)
    with pytest.raises(ParameterServerError, match="4 words"):
        table.import_rows(keys, np.zeros((3, 5), np.uint32), 1)
    assert len(table) == 0


# Weights in bfloat16


def test_bfloat16_weights_take_half_the_room_and_keep_the_rest_exact() -> None:
    config = TableConfig(
        "t", dim=5, optimizer=Adagrad(), weights="bfloat16", statistics=("count",), init_scale=0.3
    )
    assert (config.width, config.payload_words) == (10, 3 + 5 + 1)
    table = SparseTable(config)
    keys = np.arange(1000, dtype=np.uint64)
    exact = SparseTable(replace(config, weights="float32"))
    before = exact.pull_weights(keys)
    # A neighbour is less than 2⁻⁷ of the number away.
    assert (np.abs(table.pull_weights(keys) - before) <= 2.0**-7 * np.abs(before)).all()
    grads = np.full((1000, 5), 2.0, np.float32)
    for each in (table, exact):
        each.push_gradients(keys, grads, 1)
    assert np.array_equal(table.pull_state(keys)[:, 5:], exact.pull_state(keys)[:, 5:])
    weights = table.pull_weights(keys)
    assert (weights.view(np.uint32) & 0xFFFF == 0).all()
    assert np.array_equal(table.pull_state(keys)[:, :5], weights)
    after = exact.pull_weights(keys)
    bound = 2.0**-7 * (np.abs(before) + np.abs(after)) * 1.001
    assert (np.abs(weights - after) <= bound).all()
    assert (weights != after).mean() > 0.9


@pytest.mark.parametrize("optimizer", [Adam(), ASGD(), Momentum()])
def test_every_rule_that_stores_weights_trains_on_bfloat16(
    optimizer: Any, rng: np.random.Generator
) -> None:
    config = TableConfig("t", dim=3, optimizer=optimizer, weights="bfloat16", init_scale=0.3)
    table, exact = SparseTable(config, 4), SparseTable(replace(config, weights="float32"), 4)
    keys = rng.permutation(300).astype(np.uint64)
    for sequence in range(1, 20):
        grads = rng.normal(size=(300, 3)).astype(np.float32)
        counts = rng.integers(1, 5, 300).astype(np.float32)
        squares = grads**2 + 0.1
        for each in (table, exact):
            each.push_gradients(keys, grads, sequence, counts=counts, squares=squares)
    assert np.allclose(table.pull_weights(keys), exact.pull_weights(keys), rtol=0.03, atol=0.02)
    assert table.config.payload_words < exact.config.payload_words


def test_a_missing_bfloat16_row_is_pulled_as_it_would_start() -> None:
    config = TableConfig("t", dim=3, optimizer=SGD(), weights="bfloat16", init_scale=0.3)
    table = SparseTable(config)
    keys = np.arange(200, dtype=np.uint64)
    before = table.pull_state(keys)
    table.push_gradients(keys, np.zeros((200, 3), np.float32), 5)
    assert np.array_equal(table.pull_state(keys), before)


def test_rounding_to_bfloat16_loses_no_small_updates_on_average() -> None:
    dim = 9  # more columns than one hash has chances for
    table = SparseTable(TableConfig("t", dim=dim, optimizer=SGD(lr=1.0), weights="bfloat16"))
    keys = np.arange(4000, dtype=np.uint64)
    ones = -np.ones((4000, dim), np.float32)
    table.push_gradients(keys, ones, 1)
    step = 2.0**-11  # a sixteenth of the distance between neighbours at 1
    for sequence in range(2, 66):
        table.push_gradients(keys, ones * np.float32(step), sequence)
    weights = table.pull_weights(keys)
    assert np.unique(weights).size > 4
    # Of each row the deviation is about 0.015, of the mean over them 0.0002.
    assert np.abs(weights.mean(axis=0) - (1 + 64 * step)).max() < 0.0015
    assert np.abs(np.corrcoef(weights.T) - np.eye(dim)).max() < 0.08


def test_repeated_keys_of_a_bfloat16_push_act_one_after_the_other() -> None:
    config = TableConfig("t", dim=2, optimizer=Adagrad(), weights="bfloat16")
    table, single = SparseTable(config), SparseTable(config)
    keys = np.array([5, 6, 5, 5, 6], np.uint64)
    grads = np.arange(10, dtype=np.float32).reshape(5, 2)
    table.push_gradients(keys, grads, 1)
    for key, grad in zip(keys, grads, strict=True):
        single.push_gradients(np.array([key]), grad[None], 1)
    assert np.array_equal(table.pull_state(keys), single.pull_state(keys))


def test_rounding_depends_on_key_column_and_sequence_only(rng: np.random.Generator) -> None:
    config = TableConfig("t", dim=3, optimizer=SGD(lr=1.0), weights="bfloat16")
    keys = rng.permutation(500).astype(np.uint64)
    grads = rng.normal(size=(500, 3)).astype(np.float32)
    first, second, later = (SparseTable(config, buckets) for buckets in (2, 64, 2))
    first.push_gradients(keys, grads, 3)
    second.push_gradients(keys[::-1], grads[::-1], 3)
    later.push_gradients(keys, grads, 4)
    assert np.array_equal(first.pull_weights(keys), second.pull_weights(keys))
    assert not np.array_equal(first.pull_weights(keys), later.pull_weights(keys))


def test_bfloat16_keeps_infinities_and_not_a_number() -> None:
    table = SparseTable(TableConfig("t", dim=3, optimizer=SGD(), weights="bfloat16"))
    keys = np.arange(50, dtype=np.uint64)
    odd = np.array([np.inf, -np.inf, np.float32(np.nan)], np.float32)
    table.put_state(keys, np.tile(odd, (50, 1)), 1)
    state = table.pull_state(keys)
    assert (state[:, 0] == np.inf).all()
    assert (state[:, 1] == -np.inf).all()
    assert np.isnan(state[:, 2]).all()


# Configuration


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"name": "a/b"}, "'a/b'"),
        ({"name": ""}, "''"),
        ({"name": ".x"}, "not start with"),
        ({"dim": 0}, "dim"),
        ({"dim": 257}, "dim must be 1 to 256"),
        ({"optimizer": "ftrl"}, "got 'ftrl'"),
        ({"init_scale": -1.0}, "init_scale"),
        ({"seed": -1}, "seed"),
        ({"weights": "float16"}, "weights must be"),
        ({"weights": "bfloat16", "optimizer": FTRL()}, "ftrl does not; use float32"),
        ({"statistics": ("views",)}, "statistics must be"),
        ({"statistics": ("count", "count")}, "each once"),
        ({"capacity": 0}, "capacity must be 1 or more"),
        ({"capacity_policy": "newest"}, "capacity_policy"),
        ({"capacity": 9, "capacity_policy": "oldest"}, "'last_seen'"),
        ({"expiry": ExpiryConfig(ttl=3)}, "expiry.ttl needs the statistic 'last_seen'"),
        ({"expiry": ExpiryConfig(min_score=1.0)}, "expiry.min_score needs the statistic 'shows'"),
        ({"max_load": 1.0}, "max_load"),
        ({"change_log_bytes": 10}, "change_log_bytes"),
        ({"expected_rows": -5}, "expected_rows"),
        ({"rows": 0}, "rows must be"),
        ({"rows": 5, "capacity": 3}, "capacity is for sparse tables"),
        ({"rows": 5, "admission": AdmissionConfig()}, "admission is for sparse tables"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict[str, object], what: str) -> None:
    good: dict[str, object] = {"name": "t", "optimizer": SGD()}
    with pytest.raises(ConfigError, match=what):
        TableConfig(**(good | fields))  # type: ignore[arg-type]


def test_a_configuration_survives_the_trip_through_plain_data() -> None:
    config = TableConfig(
        "t",
        dim=3,
        optimizer=Adagrad(lr=0.1),
        weights="bfloat16",
        statistics=STATISTICS,
        admission=AdmissionConfig(kind="bloom", expected_keys=100),
        expiry=ExpiryConfig(ttl=5, unit="seconds", min_score=0.5, decay=0.98),
        capacity=10_000,
        capacity_policy="oldest",
        change_log_bytes=1 << 20,
        expected_rows=1000,
    )
    again = TableConfig.from_mapping(config.to_mapping())
    assert again == config
    assert again.expected_rows == 1000
    assert from_mapping(TableConfig, config.to_mapping()) == config
    assert replace(config, expected_rows=0) == config  # a hint, not what the table is
    old = {"name": "t", "dim": 3, "optimizer": {"name": "sgd", "lr": 0.5}}
    assert TableConfig.from_mapping(old) == TableConfig("t", dim=3, optimizer=SGD(lr=0.5))


def test_a_dense_configuration_makes_no_sparse_table() -> None:
    with pytest.raises(ConfigError, match="rows = 5"):
        SparseTable(TableConfig("t", optimizer=SGD(), rows=5))


def test_differences_need_a_state_that_is_a_sum() -> None:
    class Odd(SGD):
        sums = False

    table = SparseTable(TableConfig("t", optimizer=Odd()))
    with pytest.raises(ParameterServerError, match="push gradients"):
        table.push_differences(np.zeros(1, np.uint64), np.zeros((1, 1), np.float32), 1)
