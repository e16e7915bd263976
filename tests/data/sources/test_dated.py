from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from weiml.data import DailySink, DailySource, Examples, HourlySink, HourlySource
from weiml.errors import ConfigError, DataError


def numbers(*values: int) -> Examples:
    return Examples.of(pa.table({"n": list(values)}))


def test_days_are_read_in_order_across_months(place: str) -> None:
    for n, day in enumerate(["2017-05-31", "2017-06-01", "2017-06-02"]):
        numbers(n).write(DailySink(place, day))
    read = DailySource(place, "2017-05-31", dt.date(2017, 6, 1)).read()
    assert read.to_table()["n"].to_pylist() == [0, 1]
    assert DailySource(place, "2017-06-02").read().to_table()["n"].to_pylist() == [2]


def test_a_day_that_is_missing_is_told_or_skipped(tmp_path: Path) -> None:
    numbers(1).write(DailySink(str(tmp_path), "2017-06-01"))
    numbers(3).write(DailySink(str(tmp_path), "2017-06-03"))
    with pytest.raises(DataError, match="1 of 3 folders are missing or empty: .*2017/06/02"):
        DailySource(str(tmp_path), "2017-06-01", "2017-06-03").read()
    some = DailySource(str(tmp_path), "2017-06-01", "2017-06-03", missing="skip").read()
    assert some.to_table()["n"].to_pylist() == [1, 3]
    with pytest.raises(DataError, match="2 of 2 folders"):
        DailySource(str(tmp_path), "2018-06-01", "2018-06-02", missing="skip").read()


def test_hours_and_time_zones(tmp_path: Path) -> None:
    late = dt.datetime(2017, 6, 2, 1, 30, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    numbers(17).write(HourlySink(str(tmp_path), late))
    numbers(18).write(HourlySink(str(tmp_path), "2017-06-01T18:59"))
    assert (tmp_path / "2017/06/01/17").is_dir()
    day = HourlySource(str(tmp_path), "2017-06-01", missing="skip")
    assert day.read().to_table()["n"].to_pylist() == [17, 18]
    assert HourlySource(str(tmp_path), "2017-06-01T18").read().count() == 1


def test_nonsense_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ISO text"):
        DailySource(str(tmp_path), "June")
    with pytest.raises(ConfigError, match="comes after"):
        DailySource(str(tmp_path), "2017-06-02", "2017-06-01")
    with pytest.raises(ConfigError, match="'error' or 'skip'"):
        DailySource(str(tmp_path), "2017-06-02", missing="ignore")  # type: ignore[arg-type]


def test_types_of_text_files_may_be_declared(tmp_path: Path) -> None:
    for day, price in (("01", "3"), ("02", "4.5")):
        (tmp_path / "2024/05" / day).mkdir(parents=True)
        (tmp_path / "2024/05" / day / "a.csv").write_text(f"price\n{price}\n")
    schema = pa.schema({"price": pa.float64()})
    days = DailySource(str(tmp_path), "2024-05-01", "2024-05-02", schema=schema)
    assert days.read().to_table()["price"].to_pylist() == [3.0, 4.5]
