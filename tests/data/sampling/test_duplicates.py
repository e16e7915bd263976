from __future__ import annotations

import pyarrow as pa
import pytest

from weiml.data.sampling import Duplicates, RowCounts, remove_duplicates
from weiml.errors import ConfigError, DataError

TABLE = pa.table(
    {
        "user": [1, 2, 1, None, 1, None],
        "item": ["a", "a", "a", "b", "b", "b"],
        "time": [5, 1, 3, 2, 2, 2],
        "row": list(range(6)),
    }
)


@pytest.mark.parametrize(
    ("keep", "time", "rows"),
    [
        ("first", None, [0, 1, 3, 4]),
        ("last", None, [1, 2, 4, 5]),
        ("first", "time", [1, 2, 3, 4]),
        ("last", "time", [0, 1, 4, 5]),
    ],
)
def test_one_row_of_each_example_stays(keep: str, time: str | None, rows: list[int]) -> None:
    counts = RowCounts()
    config = Duplicates(keys=("user", "item"), keep=keep, time=time)  # type: ignore[arg-type]
    assert remove_duplicates(TABLE, config, counts=counts)["row"].to_pylist() == rows
    assert (counts.seen, counts.kept) == (6, 4)


def test_without_duplicates_and_without_rows_nothing_changes() -> None:
    config = Duplicates(keys=("row",), time="time")
    assert remove_duplicates(TABLE, config) == TABLE
    assert remove_duplicates(TABLE.slice(0, 0), config).num_rows == 0


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(ConfigError, match="keys"):
        Duplicates(keys=())
    with pytest.raises(ConfigError, match="first or last"):
        Duplicates(keys=("a",), keep="frist")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 nulls"):
        remove_duplicates(TABLE, Duplicates(keys=("item",), time="user"))
    with pytest.raises(DataError, match="no key column 'itm'; did you mean 'item'"):
        remove_duplicates(TABLE, Duplicates(keys=("itm",)))
    with pytest.raises(DataError, match="plain values"):
        remove_duplicates(pa.table({"x": [[1]]}), Duplicates(keys=("x",)))
