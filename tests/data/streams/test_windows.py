from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams import Count, Ratio, Sum, WindowConfig, Windows, window_features
from weiml.data.streams.watermark import END
from weiml.data.streams.windows import key_hashes
from weiml.errors import ConfigError, DataError

MEASURES = (
    Count("shown", ("event", "impression")),
    Count("clicks", ("event", "click")),
    Sum("ms", "dwell"),
    Ratio("ctr", "clicks", "shown"),
    Ratio("smooth", "clicks", "shown", strength=10, prior=0.1),
)


def config(
    sizes: tuple[str, ...], every: str | None, give: Literal["windows", "features", "nothing"]
) -> WindowConfig:
    return WindowConfig(
        name="w", keys=("item",), measures=MEASURES, sizes=sizes, every=every, give=give
    )


Event = tuple[str, int, bool, int]
Events = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-300, 300), st.booleans(), st.integers(0, 9)),
    max_size=40,
)
Sizes = st.sampled_from(
    [(("10ms",), None), (("40ms",), "10ms"), (("60ms", "20ms", "200ms"), "20ms"), (("7ms",), "1ms")]
)


def table_of(events: list[Event]) -> tuple[pa.Table, np.ndarray]:
    times = np.array([event[1] for event in events], np.int64)
    table = pa.table(
        {
            "item": pa.array([event[0] for event in events], pa.string()),
            "event": pa.array(["click" if event[2] else "impression" for event in events]),
            "dwell": pa.array([event[3] for event in events], pa.int64()),
            "time": times,
        }
    )
    return table, times


def sums(events: list[Event], item: str, start: int, stop: int) -> tuple[int, int, int]:
    """Count one by one what lies in start … stop - 1."""
    inside = [event for event in events if event[0] == item and start <= event[1] < stop]
    clicks = sum(event[2] for event in inside)
    return len(inside) - clicks, clicks, sum(event[3] for event in inside)


def check_row(row: dict[str, Any], size: str, expected: tuple[int, int, int]) -> None:
    shown, clicks, _ = expected
    assert (row[f"shown_{size}"], row[f"clicks_{size}"], row[f"ms_{size}"]) == expected
    assert row[f"ctr_{size}"] == (clicks / shown if shown else None)
    assert row[f"smooth_{size}"] == (clicks + 1) / (shown + 10)


def run(windows: Windows, events: list[Event], step: int) -> list[dict[str, Any]]:
    """Feed events of rising watermarks in batches, through a checkpoint between any two."""
    rows: list[dict[str, Any]] = []
    for watermark in range(-300, 301, step):
        # Some come long before their time is reached, none after the watermark has passed it.
        come = [max(event[1] - event[1] * 7 % 90, -300) for event in events]
        batch = [
            event
            for event, at in zip(events, come, strict=True)
            if watermark <= at < watermark + step
        ]
        windows.add(*table_of(batch))
        found = windows.advance(watermark + step)
        rows += [] if found is None else found.to_pylist()
        other = Windows(windows._config)
        other.restore(windows.state())
        windows = other
    found = windows.advance(END)
    return rows + ([] if found is None else found.to_pylist())


@given(Events, Sizes, st.sampled_from([20, 70, 601]))
def test_windows_are_what_counting_one_by_one_gives(
    events: list[Event], sizes: tuple[tuple[str, ...], str | None], step: int
) -> None:
    settings = config(*sizes, "windows")
    hop, longest = settings.every_ms, max(settings.sizes_ms)
    rows = run(Windows(settings), events, step)
    assert [row["sequence"] for row in rows] == list(range(len(rows)))
    expected = {
        (item, end)
        for item in "abc"
        for end in range(-600 // hop * hop, 900, hop)
        if any(sums(events, item, end - longest, end)[:2])
    }
    found = [(row["item"], row["window_end"]) for row in rows]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert [end for _, end in found] == sorted(end for _, end in found)
    for row in rows:
        for size, length in zip(settings.sizes, settings.sizes_ms, strict=True):
            end = row["window_end"]
            check_row(row, size, sums(events, row["item"], end - length, end))


@given(Events, Sizes, st.sampled_from([20, 70, 601]))
def test_features_of_the_stream_are_those_of_the_job_and_of_counting(
    events: list[Event], sizes: tuple[tuple[str, ...], str | None], step: int
) -> None:
    settings = config(*sizes, "features")
    table, times = table_of(events)
    job = window_features(table, times, settings).to_pylist()
    hop = settings.every_ms
    for row in job:
        for size, length in zip(settings.sizes, settings.sizes_ms, strict=True):
            pane = row["time"] // hop * hop  # strictly before the event's own pane
            check_row(row, size, sums(events, row["item"], pane - length, pane))
    stream = run(Windows(settings), events, step)
    assert sorted(map(repr, stream)) == sorted(map(repr, job))


def test_find_answers_at_once_with_what_came() -> None:
    windows = Windows(config(("40ms",), "10ms", "nothing"))
    table, times = table_of([("a", 5, True, 0), ("a", 15, False, 0), ("a", 39, True, 0)])
    windows.add(table, times)
    keys = key_hashes(table.slice(0, 1), ("item",))
    for time, clicks in ((5, 0), (9, 0), (10, 1), (39, 1), (40, 2), (49, 2), (50, 1), (90, 0)):
        assert windows.find(keys, np.array([time]))["clicks_40ms"].to_pylist() == [clicks], time


def test_keys_and_panes_that_have_passed_are_dropped() -> None:
    windows = Windows(config(("40ms",), "10ms", "windows"))
    for i in range(200):
        table, times = table_of([(f"item {i}", i * 10, False, 0)])
        windows.add(table, times)
        windows.advance(i * 10)
        assert windows.status()["keys"] <= 6
        assert windows.status()["panes"] <= 6


def test_an_event_waits_for_all_that_its_features_count() -> None:
    windows = Windows(config(("40ms",), "10ms", "features"))
    windows.add(*table_of([("a", 12, True, 0)]))
    assert windows.advance(9) is None  # one at 9 may still come
    windows.add(*table_of([("a", 9, True, 0)]))
    rows = windows.advance(10)
    assert rows is not None
    assert rows.select(["time", "clicks_40ms"]).to_pydict() == {
        "time": [12, 9],
        "clicks_40ms": [1, 0],
    }


def test_nothing_is_dropped_that_features_count() -> None:
    windows = Windows(config(("40ms",), "10ms", "features"))
    windows.add(*table_of([("a", -5, True, 0), ("a", 0, True, 0)]))
    windows.advance(45)
    assert windows.status()["panes"] == 1
    windows.add(*table_of([("a", 45, True, 0)]))
    rows = windows.advance(45)
    assert rows is not None
    assert rows["clicks_40ms"].to_pylist() == [1]


def test_a_pane_is_kept_once() -> None:
    windows = Windows(config(("40ms",), "10ms", "windows"))
    for times in ([11, 12, 1], [2, 13, 21, 3]):
        windows.add(*table_of([("a", time, False, 0) for time in times]))
    assert windows.status()["panes"] == 3


def test_events_of_windows_that_are_over_are_told() -> None:
    windows = Windows(config(("10ms",), None, "windows"))
    windows.advance(100)
    windows.add(*table_of([("a", 95, True, 0), ("a", 105, True, 0)]))
    assert windows.status()["too_old"] == 1
    rows = windows.advance(200)
    assert rows is not None
    assert rows["clicks_10ms"].to_pylist() == [1]


def test_keys_of_several_columns_keep_their_values() -> None:
    settings = WindowConfig(
        name="w", keys=("user", "item"), measures=(Count("n"),), sizes=("10ms",)
    )
    table = pa.table({"user": [1, 1, 2, 1], "item": ["x", "y", "x", "x"], "other": [0, 0, 0, 0]})
    windows = Windows(settings)
    windows.add(table, np.array([0, 1, 2, 3]))
    rows = windows.advance(END)
    assert rows is not None
    found = {(row["user"], row["item"]): row["n_10ms"] for row in rows.to_pylist()}
    assert found == {(1, "x"): 2, (1, "y"): 1, (2, "x"): 1}


def test_values_that_are_no_numbers_add_nothing() -> None:
    for values, total in (([1.0, float("nan"), None, 2.0], 3.0), ([2**53 + 1, 4], 2.0**53 + 4)):
        windows = Windows(
            WindowConfig(name="w", keys=("item",), measures=(Sum("s", "x"),), sizes=("10ms",))
        )
        table = pa.table({"item": ["a"] * len(values), "x": values})
        windows.add(table, np.zeros(len(values), np.int64))
        rows = windows.advance(END)
        assert rows is not None
        assert rows["s_10ms"].to_pylist() == [total]


def test_a_long_silence_costs_nothing() -> None:
    windows = Windows(config(("1s",), "1ms", "windows"))
    windows.add(*table_of([("a", 0, True, 0)]))
    windows.add(*table_of([("a", 10**15, True, 0)]))
    rows = windows.advance(10**15)
    assert rows is not None
    assert rows.num_rows == 1000


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="multiples"):
        config(("25ms",), "10ms", "windows")
    with pytest.raises(ConfigError, match="unit"):
        config(("25",), None, "windows")
    with pytest.raises(ConfigError, match="did you mean 'shown'"):
        WindowConfig(name="w", keys=("a",), measures=(Count("shown"), Ratio("r", "shown", "show")))
    with pytest.raises(ConfigError, match="names"):
        WindowConfig(name="w", keys=("a",), measures=(Count("n"), Count("n")))
    windows = Windows(config(("10ms",), None, "windows"))
    with pytest.raises(DataError, match="did you mean 'items'"):
        windows.add(pa.table({"items": ["a"]}), np.zeros(1, np.int64))
    with pytest.raises(DataError, match="'dwell'"):
        windows.add(pa.table({"item": ["a"], "event": ["x"]}), np.zeros(1, np.int64))


def test_events_without_a_key_count_for_nobody() -> None:
    events = pa.table({"item": pa.array([None, None, 1, 1, None], pa.int64())})
    config = WindowConfig(name="n", keys=("item",), measures=(Count("n"),), every="1s")
    found = window_features(events, np.arange(5) * 2000, config)
    assert found.columns[-1].to_pylist() == [0, 0, 0, 1, 0]
