from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams import LabelJoin, LabelJoinConfig
from weiml.data.streams.watermark import END
from weiml.errors import ConfigError, DataError

Event = tuple[str, str, int]  # kind, key, time
Events = st.lists(
    st.tuples(
        st.sampled_from(["impression", "click", "other"]),
        st.sampled_from("ab"),
        st.integers(0, 120),
    ),
    max_size=30,
)


def labels(events: list[Event], wait: int) -> list[tuple[int, int, int | None, int]]:
    """Return (number, label, delay, clicks) by going through all pairs."""
    clicks: dict[int, list[int]] = {}
    for kind, key, time in events:
        if kind != "click":
            continue
        before = [
            (event[2], i)
            for i, event in enumerate(events)
            if event[0] == "impression" and event[1] == key and event[2] <= time
        ]
        if before and time - max(before)[0] <= wait:
            clicks.setdefault(max(before)[1], []).append(time - max(before)[0])
    return [
        (i, int(i in clicks), min(clicks.get(i, []), default=None), len(clicks.get(i, [])))
        for i, event in enumerate(events)
        if event[0] == "impression"
    ]


def table_of(events: list[Event], numbers: list[int]) -> tuple[pa.Table, np.ndarray]:
    some = [events[i] for i in numbers]
    table = pa.table(
        {
            "event": pa.array([event[0] for event in some], pa.string()),
            "request": pa.array([event[1] for event in some], pa.string()),
            "number": pa.array(numbers, pa.int64()),
        }
    )
    return table, np.array([event[2] for event in some], np.int64)


@given(Events, st.sampled_from([1, 10, 64]), st.sampled_from([7, 50, 200]))
def test_labels_are_those_of_all_pairs(events: list[Event], wait: int, step: int) -> None:
    settings = LabelJoinConfig(keys=("request",), wait=f"{wait}ms")
    join, rows = LabelJoin(settings), list[dict[str, Any]]()
    for watermark in range(0, 200, step):
        # Some come before their time is reached; those of one time keep the order of the log.
        come = [max(event[2] - event[2] * 7 % 20, 0) for event in events]
        now = [i for i, at in enumerate(come) if watermark <= at < watermark + step]
        join.add(*table_of(events, now))
        found = join.advance(watermark + step)
        rows += [] if found is None else found.to_pylist()
        other = LabelJoin(settings)
        other.restore(join.state())
        join = other
    found = join.advance(END)
    rows += [] if found is None else found.to_pylist()
    got = sorted((row["number"], row["label"], row["delay_ms"], row["clicks"]) for row in rows)
    expected = labels(events, wait)
    assert got == expected
    total = sum(event[0] == "click" for event in events)
    assert join.status()["late_clicks"] == total - sum(row[3] for row in expected)
    assert join.status()["impressions"] == join.status()["clicks"] == 0


def test_missing_keys_match_nothing() -> None:
    join = LabelJoin(LabelJoinConfig(keys=("user", "request"), wait="10ms"))
    table = pa.table(
        {
            "user": [1, 1, None, 1, 1, None],
            "request": pa.array([None, "a", None, None, "a", None], pa.string()),
            "event": ["impression"] * 3 + ["click"] * 3,
        }
    )
    join.add(table, np.zeros(6, np.int64))
    again = LabelJoin(LabelJoinConfig(keys=("user", "request"), wait="10ms"))
    again.restore(join.state())
    rows = again.advance(END)
    assert rows is not None
    assert sorted(rows["label"].to_pylist()) == [0, 0, 1]
    assert rows.filter(pc.is_valid(rows["request"]))["label"].to_pylist() == [1]
    told = {"impressions": 0, "clicks": 0, "late_clicks": 0, "without_key": 4}
    assert again.status() == told


def test_a_click_at_the_last_moment_counts() -> None:
    join = LabelJoin(LabelJoinConfig(keys=("request",), wait="10ms"))
    events = [
        ("impression", "a", 0),
        ("click", "a", 10),
        ("impression", "b", 0),
        ("click", "b", 11),
    ]
    join.add(*table_of(events, list(range(4))))
    rows = join.advance(END)
    assert rows is not None
    assert rows["label"].to_pylist() == [1, 0]
    assert join.status()["late_clicks"] == 1


def test_an_impression_waits_no_longer_than_it_must() -> None:
    join = LabelJoin(LabelJoinConfig(keys=("request",), wait="160ms"))
    join.add(*table_of([("impression", "a", 0)], [0]))
    assert join.advance(160) is None  # a click at 160 may still come
    rows = join.advance(171)
    assert rows is not None
    assert rows["label"].to_pylist() == [0]


def test_settings_and_columns_are_checked() -> None:
    with pytest.raises(ConfigError, match="differ"):
        LabelJoinConfig(keys=("a",), impression="x", click="x")
    with pytest.raises(ConfigError, match="wait"):
        LabelJoinConfig(keys=("a",), wait="long")
    join = LabelJoin(LabelJoinConfig(keys=("request",)))
    with pytest.raises(DataError, match="did you mean 'events'"):
        join.add(pa.table({"events": ["click"]}), np.zeros(1, np.int64))
