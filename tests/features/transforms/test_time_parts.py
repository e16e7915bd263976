"""Parts of times against Python's own calendar, in several zones."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.features.transforms import TimeParts
from weiml.features.transforms.time_parts import Part

PARTS: tuple[Part, ...] = ("hour", "weekday", "day", "month", "hour_of_week", "is_weekend")


def parts(values: pa.Array, zone: str = "UTC", wanted: tuple[Part, ...] = PARTS) -> list[Any]:
    table = pa.table({"t": values})
    made = TimeParts("t", parts=wanted, timezone=zone).fit(table).apply(table).drop_columns(["t"])
    return [tuple(row.values()) for row in made.to_pylist()]


@given(
    st.lists(st.integers(0, 2_110_000_000), min_size=1, max_size=20),
    st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kolkata"]),
)
def test_parts_are_pythons(seconds: list[int], zone: str) -> None:
    expected = []
    for s in seconds:
        at = datetime.fromtimestamp(s, UTC).astimezone(ZoneInfo(zone))
        day = at.weekday()
        expected.append((at.hour, day, at.day, at.month, day * 24 + at.hour, day >= 5))
    assert parts(pa.array(seconds, pa.int64()), zone) == expected


def test_stamps_of_any_unit_and_zone_are_the_same_times() -> None:
    seconds = [0, 1_700_000_000, -1]
    expected = parts(pa.array(seconds), "Europe/Berlin")
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "America/New_York"):
            stamps = pa.array(seconds, pa.timestamp("s", zone)).cast(pa.timestamp(unit, zone))
            assert parts(stamps, "Europe/Berlin") == expected
    # Half a second before 1970 is in 1969.
    assert parts(pa.array([-500], pa.timestamp("ms")))[0][:4] == (23, 2, 31, 12)


def test_a_date_is_of_the_zone_already() -> None:
    for kind in (pa.date32(), pa.date64()):
        made = parts(pa.array([date(2024, 2, 29), None], kind), "America/New_York")
        assert made == [(0, 3, 29, 2, 72, False), (None,) * 6]


def test_cycles_are_places_on_a_circle() -> None:
    wanted: tuple[Part, ...] = ("hour_cycle", "month_cycle", "weekday_cycle")
    hours = pa.array([0, 6 * 3600, 18 * 3600, None])
    table = pa.table({"t": hours})
    made = TimeParts("t", parts=wanted).fit(table).apply(table)
    assert made.schema.names == [
        "t",
        "t_hour_sin",
        "t_hour_cos",
        "t_month_sin",
        "t_month_cos",
        "t_weekday_sin",
        "t_weekday_cos",
    ]
    assert made.column("t_hour_sin").to_pylist() == [0.0, 1.0, -1.0, None]
    assert made.column("t_month_sin").to_pylist()[:3] == [0.0] * 3
    assert made.column("t_weekday_sin")[0].as_py() == pytest.approx(math.sin(6 * math.pi / 7))
    squares = [np.array(made.column(f"t_weekday_{f}")[:3]) ** 2 for f in ("sin", "cos")]
    np.testing.assert_allclose(squares[0] + squares[1], 1.0)


def test_times_out_of_range_are_missing() -> None:
    far = pa.array([2**63 - 1, -(2**63), 10**12])
    assert parts(far) == [(None,) * 6] * 3
    assert parts(pa.array([2**64 - 1], pa.uint64())) == [(None,) * 6]


@pytest.mark.parametrize(
    "options",
    [{"parts": ()}, {"parts": ("hours",)}, {"parts": ("hour", "hour")}, {"timezone": "Mars/Base"}],
)
def test_wrong_options_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        TimeParts("t", **options)


def test_the_hour_that_is_there_twice_when_clocks_go_back() -> None:
    instants = [1_730_611_800, 1_730_615_400]  # 1:30 twice, on 3 November 2024
    zoned = pa.array([s * 1_000_000 + 1 for s in instants], pa.timestamp("us", "America/New_York"))
    assert parts(zoned, "America/New_York", ("hour",)) == [(1,), (1,)]
    assert parts(zoned, "UTC", ("hour",)) == [(5,), (6,)]
    assert parts(zoned, "UTC") == parts(pa.array(instants, pa.int64()), "UTC")
