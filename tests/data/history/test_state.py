from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.data.history.state import (
    Counters,
    HistoryConfig,
    HistoryState,
    prefix_counts,
    prefix_sums,
)
from weiml.errors import ConfigError, DataError

GENRES = ["Action", "Drama", "War"]
EVENTS = st.lists(
    st.tuples(
        st.integers(1, 4),  # user
        st.integers(1, 5),  # item
        st.integers(1, 5),  # rating
        st.integers(0, 6),  # time: many ties
        st.sets(st.sampled_from(GENRES)),
    ),
    max_size=40,
)


def as_table(events: list[tuple[int, int, int, int, set[str]]]) -> pa.Table:
    users, items, ratings, times, genres = zip(*events, strict=True) if events else ([],) * 5
    return pa.table(
        {
            "user_id": pa.array(users, pa.int32()),
            "item_id": pa.array(items, pa.int32()),
            "rating": pa.array(ratings, pa.float32()),
            "timestamp": pa.array(times, pa.int64()),
            "genres": pa.array([sorted(g) for g in genres], pa.list_(pa.string())),
        }
    )


def brute_force(table: pa.Table, config: HistoryConfig) -> dict[str, list[float]]:
    """The definition, row by row: everything strictly before, nothing else."""
    rows = table.to_pylist()
    out: dict[str, list[float]] = {}
    for row in rows:
        before = [other for other in rows if other["timestamp"] < row["timestamp"]]
        seen = {
            "user": [o for o in before if o["user_id"] == row["user_id"]],
            "item": [o for o in before if o["item_id"] == row["item_id"]],
            "user_genre": [
                o
                for genre in row["genres"]
                for o in before
                if o["user_id"] == row["user_id"] and genre in o["genres"]
            ],
        }
        a = config.strength
        for kind, events in seen.items():
            positives = sum(o["rating"] >= config.threshold for o in events)
            total = sum(o["rating"] for o in events)
            rate = (positives + a * config.prior_rate) / (len(events) + a)
            out.setdefault(f"{kind}_count", []).append(len(events))
            out.setdefault(f"{kind}_rate", []).append(rate)
            mean = (total + a * config.prior_mean) / (len(events) + a)
            out.setdefault(f"{kind}_mean", []).append(mean)
    out.pop("user_genre_mean", None)
    return out


def assert_columns(columns: dict[str, pa.Array], expected: dict[str, list[float]]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name].to_numpy(), values, rtol=1e-6, err_msg=name)


@settings(deadline=None)
@given(EVENTS)
def test_offline_history_is_the_definition(
    events: list[tuple[int, int, int, int, set[str]]],
) -> None:
    config = HistoryConfig(strength=3.0, prior_rate=0.4, prior_mean=3.0)
    table = as_table(events)
    columns = HistoryState(config).columns(table, events=True)
    assert_columns(columns, brute_force(table, config))


@settings(deadline=None)
@given(EVENTS, st.integers(0, 6), st.randoms(use_true_random=False))
def test_nothing_leaks_from_the_present_or_the_future(
    events: list[tuple[int, int, int, int, set[str]]], now: int, random: object
) -> None:
    table = as_table(events)
    altered = as_table(
        [
            event if event[3] < now else (*event[:2], 6 - event[2], event[3], event[4])
            for event in events
        ]
    )
    before = HistoryState().columns(table, events=True)
    after = HistoryState().columns(altered, events=True)
    past = pa.array(table["timestamp"].to_numpy() <= now)
    for name in before:
        assert before[name].filter(past).equals(after[name].filter(past)), name


@settings(deadline=None)
@given(EVENTS, st.permutations(range(40)))
def test_the_order_of_rows_does_not_matter(
    events: list[tuple[int, int, int, int, set[str]]], order: list[int]
) -> None:
    table = as_table(events)
    chosen = pa.array([i for i in order if i < len(events)], pa.int64())
    columns = HistoryState().columns(table, events=True)
    permuted = HistoryState().columns(table.take(chosen), events=True)
    for name in columns:
        assert permuted[name].equals(columns[name].take(chosen)), name


@settings(deadline=None)
@given(EVENTS, st.lists(st.integers(0, 40), max_size=4))
def test_a_stream_sees_what_the_offline_job_sees(
    events: list[tuple[int, int, int, int, set[str]]], cuts: list[int]
) -> None:
    events = sorted(events, key=lambda event: event[3])
    table = as_table(events)
    offline = HistoryState().columns(table, events=True)
    state, at = HistoryState(), 0
    for stop in [*sorted(min(cut, len(events)) for cut in cuts), len(events)]:
        piece = table.slice(at, stop - at)
        columns = state.columns(piece, events=True)
        for name in columns:
            assert columns[name].equals(offline[name].slice(at, stop - at)), name
        state.observe(piece)
        at = stop
    assert state.num_events == len(events)


@settings(deadline=None)
@given(EVENTS, st.integers(0, 7))
def test_candidates_are_no_events(
    events: list[tuple[int, int, int, int, set[str]]], now: int
) -> None:
    past = [event for event in events if event[3] <= now]
    state = HistoryState()
    state.observe(as_table(past))
    candidates = as_table([(1, item, 5, now, {"War"}) for item in (1, 2, 2, 3)])
    got = state.columns(candidates.drop_columns(["rating"]), events=False)
    for i in range(4):
        single = HistoryState().columns(
            pa.concat_tables([as_table(past), candidates.slice(i, 1)]), events=True
        )
        for name in got:
            assert got[name][i] == single[name][-1], name


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 5), st.floats(0, 1, width=32)), max_size=30
    )
)
def test_prefix_counts_are_the_definition(rows: list[tuple[int, int, float]]) -> None:
    keys = np.array([row[0] for row in rows], np.uint64)
    times = np.array([row[1] for row in rows], np.int64)
    labels = np.array([row[2] for row in rows], np.float32)
    counts, positives = prefix_counts(keys, times, labels)
    for i in range(len(rows)):
        before = (keys == keys[i]) & (times < times[i])
        assert counts[i] == before.sum()
        assert positives[i] == pytest.approx(labels[before].sum(), abs=1e-5)


def test_rows_that_only_ask_are_not_counted() -> None:
    keys = np.array([7, 7, 7], np.uint64)
    times = np.array([1, 2, 3], np.int64)
    weights = np.array([True, False, True])
    counts, sums = prefix_sums(keys, times, np.ones((3, 1)), weights)
    assert counts.tolist() == [0, 1, 1]
    assert sums[:, 0].tolist() == [0, 1, 1]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=5))
def test_counters_count(batches: list[list[int]]) -> None:
    counters = Counters()
    for batch in batches:
        keys = np.array(batch, np.uint64)
        counters.add(keys, np.column_stack([np.ones(len(keys)), keys.astype(np.float64)]))
    flat = [key for batch in batches for key in batch]
    counts, sums = counters.find(np.arange(12, dtype=np.uint64))
    assert counts.tolist() == [flat.count(key) for key in range(12)]
    assert sums[:, 1].tolist() == [key * flat.count(key) for key in range(12)]


def test_the_newest_second_survives_saving(tmp_path: Path) -> None:
    table = as_table([(1, 1, 5, 10, {"War"}), (1, 2, 4, 20, {"War"}), (2, 2, 1, 20, set())])
    state = HistoryState(HistoryConfig(strength=2.0))
    state.observe(table)
    state.save(tmp_path)
    loaded = HistoryState.load(tmp_path)
    assert loaded.num_events == 3
    assert loaded.config == state.config
    for now in (20, 21):
        ask = as_table([(1, 2, 5, now, {"War", "Drama"})])
        before, after = (s.columns(ask, events=False) for s in (state, loaded))
        assert before == after
    assert (
        loaded.columns(as_table([(1, 2, 5, 20, set())]), events=False)["user_count"][0].as_py() == 1
    )
    assert (
        loaded.columns(as_table([(1, 2, 5, 21, set())]), events=False)["user_count"][0].as_py() == 2
    )


def test_a_folder_without_a_state_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        HistoryState.load(tmp_path)


def test_a_missing_column_is_named() -> None:
    table = as_table([(1, 1, 5, 10, set())]).rename_columns(
        ["user_id", "item_id", "rating", "timestmp", "genres"]
    )
    with pytest.raises(DataError, match=r"'timestamp'.*did you mean 'timestmp'"):
        HistoryState().columns(table, events=True)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(DataError, match="user"):
        HistoryState().columns(as_table([]), events=True, of=("usr",))


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"prior_rate": 1.5}])
def test_configuration_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HistoryConfig(**wrong)
