from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.data import Examples, col
from weiml.errors import ConfigError, DataError
from weiml.features.transforms import Square


def test_an_as_of_join_sees_nothing_of_its_own_time_or_later() -> None:
    events = Examples.of(pa.table({"user": [1, 1, 1, 2], "t": [10, 20, 5, 20]}))
    ages = Examples.of(pa.table({"user": [1, 1, 1], "t": [5, 20, 10], "age": [30, 50, 40]}))
    for carry in (True, False):
        joined = events.join_as_of(ages, "user", "t", carry=carry).to_table()
        assert joined["age"].to_pylist() == [30, 40, None, None]
        same = events.join_as_of(ages, "user", "t", same_time=True, carry=carry).to_table()
        assert same["age"].to_pylist() == [40, 50, 30, None]
        recent = events.join_as_of(ages, "user", "t", within="5s", carry=carry).to_table()
        assert recent["age"].to_pylist() == [30, None, None, None]


def test_impressions_are_labelled_within_the_window() -> None:
    shown = Examples.of(pa.table({"id": ["a", "b", "a", "c"], "t": [0, 0, 100, 0]}))
    clicked = Examples.of(pa.table({"ad": ["a", "a", "b"], "at": [90, 130, 61]}))
    labelled = shown.label_by(
        clicked, "id", "t", within="1m", clicks_on="ad", clicks_time="at"
    ).to_table()
    assert labelled["label"].to_pylist() == [0.0, 0.0, 1.0, 0.0]
    assert labelled["label_delay"].to_pylist() == [None, None, 30, None]


def test_times_are_compared_as_they_are() -> None:
    base = pa.array([1_000, 1_800], pa.timestamp("ns"))
    left = Examples.of(pa.table({"u": [1, 1], "t": base}))
    right = Examples.of(pa.table({"u": [1], "t": pa.array([1_800], pa.timestamp("ns")), "y": [5]}))
    joined = left.join_as_of(right, "u", "t", same_time=True).to_table()
    assert joined["y"].to_pylist() == [None, 5]
    zoned = right.with_columns(t=col("t").cast(pa.timestamp("ns", "UTC")))
    with pytest.raises(DataError, match="with a zone and without"):
        left.join_as_of(zoned, "u", "t")


def test_labels_need_a_window() -> None:
    shown = Examples.of(pa.table({"id": ["a"], "t": [0]}))
    with pytest.raises(ConfigError, match="need a window"):
        shown.label_by(shown, "id", "t", within=None)


def test_what_is_made_of_a_label_is_known_as_late() -> None:
    shown = Examples.of(pa.table({"id": ["a"], "item": [1], "t": [0]}))
    labelled = shown.label_by(shown.select("id", "t"), "id", "t", within="30m")
    for made in (
        labelled.with_columns(y=col("label").cast("int64")),
        labelled.rename(y="label"),
        labelled.rename(y="label_delay"),
        labelled.transform(Square("label", output="y")),
    ):
        with pytest.raises(DataError, match="'y' is known 1800 s after its example only"):
            made.with_counters("item", "t", None, sums="y")
        assert made.with_counters("item", "t", None, sums="y", delay="30m").count() == 1


def test_plans_say_how_far_they_look() -> None:
    shown = Examples.of(
        pa.table({"id": ["a"], "item": [1], "t": pa.array([0], pa.timestamp("us"))})
    )
    known = shown.select("id", "t")
    plan = shown.label_by(known, "id", "t", within="30m").join_as_of(known, "id", "t", within="1d")
    lines = plan.with_counters("item", "t", "1h", sums="label", delay="30m").explain().splitlines()
    assert lines[0] == "count by item in 1h, 1800 s late"
    assert lines[1].strip().startswith("as-of join on id by t within 86400 s")
    assert lines[2].strip() == "label 'label' by id within 1800 s"
