from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data.quality import TableStatistics, read_statistics, statistics_of
from weiml.errors import DataError

TABLE = pa.table(
    {"a": [1, 2, None, 3], "b": ["x", "y", "x", None], "c": [["p"], [], None, ["q", "p"]]}
)


def test_one_pass_parts_and_files_come_to_the_same(tmp_path: Path) -> None:
    whole = statistics_of([TABLE])
    parts = [statistics_of([TABLE.slice(i, 1)]) for i in range(4)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].to_mapping() == whole.to_mapping()
    whole.save(tmp_path / "s.json")
    assert read_statistics(tmp_path / "s.json").to_mapping() == whole.to_mapping()
    (tmp_path / "data").mkdir()
    pq.write_table(TABLE.slice(0, 1), tmp_path / "data" / "0.parquet")
    pq.write_table(TABLE.slice(1), tmp_path / "data" / "1.parquet")
    (tmp_path / "data" / "_SUCCESS").write_text("")
    assert read_statistics(tmp_path / "data").to_mapping() == whole.to_mapping()
    assert set(whole.features()) == {"a", "b", "c", "c.item"}


def test_a_column_that_some_rows_lack_is_missing_there() -> None:
    seen = statistics_of([pa.table({"a": [1, 2]}), pa.table({"b": ["x"]})])
    assert {name: (c.count, c.missing) for name, c in seen.columns.items()} == {
        "a": (3, 1),
        "b": (3, 2),
    }
    merged = statistics_of([pa.table({"a": [1, 2]})])
    merged.merge(statistics_of([pa.table({"b": ["x"]})]))
    assert merged.to_mapping() == seen.to_mapping()


def test_errors_name_column_and_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'a' is string, but was int64"):
        statistics_of([pa.table({"a": [1]}), pa.table({"a": ["x"]})])
    for text in ("{", '{"version": 9}', '{"version": 1, "rows": 1, "columns": {"a": {}}}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(DataError, match=r"s\.json: "):
            read_statistics(tmp_path / "s.json")
    (tmp_path / "x.csv").write_text("a\n1\nx\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data files"):
        read_statistics(tmp_path / "empty")
    (tmp_path / "y.csv").write_text("a,b\n1,2\nx\n")
    with pytest.raises(DataError, match=r"y\.csv: line 3"):
        read_statistics(tmp_path / "y.csv")


def test_infinite_numbers_are_saved(tmp_path: Path) -> None:
    seen = statistics_of([pa.table({"a": [float("inf"), float("nan")]})])
    seen.save(tmp_path / "s.json")
    numbers = read_statistics(tmp_path / "s.json").columns["a"].numbers
    assert numbers is not None
    assert (numbers.count, numbers.infinite) == (0, 1)
    assert isinstance(seen, TableStatistics)
