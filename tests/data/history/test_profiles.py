from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from weiml.data.history.profiles import Profiles, time_columns
from weiml.errors import DataError

PEOPLE = pa.table({"user_id": [5, 2, 9], "age": [50, 20, 90], "job": ["a", None, "c"]})


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.string()])
def test_joins_in_the_order_of_the_rows_with_nulls_for_strangers(kind: pa.DataType) -> None:
    rows = pa.table({"user_id": pa.array([9, 7, 2, 9]).cast(kind), "n": [0, 1, 2, 3]})
    joined = Profiles(PEOPLE, "user_id").join(rows)
    assert joined.column_names == ["user_id", "n", "age", "job"]
    assert joined["age"].to_pylist() == [90, None, 20, 90]
    assert joined["job"].to_pylist() == ["c", None, None, "c"]


def test_empty_profiles_know_nobody() -> None:
    joined = Profiles(PEOPLE.slice(0, 0), "user_id").join(pa.table({"user_id": [1, 2]}))
    assert joined["age"].to_pylist() == [None, None]
    assert (
        Profiles(PEOPLE, "user_id").join(pa.table({"user_id": pa.array([], pa.int64())})).num_rows
        == 0
    )


def test_an_id_that_comes_twice_is_named() -> None:
    with pytest.raises(DataError, match=r"'user_id'.*2 comes twice"):
        Profiles(pa.concat_tables([PEOPLE, PEOPLE.slice(1, 1)]), "user_id")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (pa.table({"user": [1]}), "did you mean 'user'"),
        (pa.table({"user_id": [1], "age": [3]}), "'age'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: pa.Table, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Profiles(PEOPLE, "user_id").join(rows)


def test_profiles_without_the_column_are_refused() -> None:
    with pytest.raises(DataError, match="user_id"):
        Profiles(PEOPLE, "userid")


@pytest.mark.parametrize("seconds", [0, 874_724_710, 893_286_638, 1_709_251_199])
def test_hour_and_weekday_are_those_of_the_calendar(seconds: int) -> None:
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    columns = time_columns(pa.array([seconds]))
    assert columns["hour"].to_pylist() == [when.hour]
    assert columns["weekday"].to_pylist() == [when.weekday()]
    chunked = time_columns(pa.chunked_array([[seconds]]))
    assert chunked == columns
