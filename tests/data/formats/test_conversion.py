from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data.formats import BadRow, Csv, convert
from weiml.errors import ConfigError, DataError

TABLE = pa.table(
    {"id": [1, 2, 3], "name": ["x", None, "z"], "score": pa.array([0.5, 1.5, None], pa.float32())}
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.parquet"
    pq.write_table(TABLE, path)
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.jsonl.zst", "t.tfrecord", "t.tfrecord.bz2", "t.arrow"]
)
def test_there_and_back(tmp_path: Path, source: Path, name: str) -> None:
    there = convert(source, tmp_path / name)
    assert (there.rows, there.bad_rows, there.schema) == (3, 0, TABLE.schema)
    back = convert(tmp_path / name, tmp_path / "back.parquet", schema=TABLE.schema)
    assert back.rows == 3
    assert pq.read_table(tmp_path / "back.parquet") == TABLE


def test_bad_rows_are_counted_and_told(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,b\n1,2\nx\n3,4\n")
    seen: list[BadRow] = []
    done = convert(tmp_path / "s.csv", tmp_path / "t.jsonl", on_bad=seen.append)
    assert (done.rows, done.bad_rows, len(seen)) == (2, 1, 1)


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,b\n1,2\nx\n")
    (tmp_path / "t.jsonl").write_text("as it was")
    with pytest.raises(DataError, match="s.csv: line 3: Expected 2 columns"):
        convert(tmp_path / "s.csv", tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"s.csv", "t.jsonl"}


def test_a_target_that_cannot_hold_the_columns_is_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(DataError, match=r"t\.vw: VW "):
        convert(source, tmp_path / "t.vw")
    assert not (tmp_path / "t.vw").exists()
    with pytest.raises(ConfigError, match="no format"):
        convert(source, tmp_path / "t.unknown")


def test_formats_may_be_named(tmp_path: Path, source: Path) -> None:
    convert(source, tmp_path / "plain", target_format=Csv(delimiter=";"))
    assert (tmp_path / "plain").read_text().startswith('"id";"name";"score"\n1;"x";0.5\n')
    convert(tmp_path / "plain", tmp_path / "t.jsonl", source_format=Csv(delimiter=";"))
    assert (tmp_path / "t.jsonl").read_text().startswith('{"id":1,"name":"x","score":0.5}\n')


def test_an_empty_source_gives_an_empty_file_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,b\n")
    assert convert(tmp_path / "s.csv", tmp_path / "t.parquet").rows == 0
    assert pq.read_schema(tmp_path / "t.parquet").names == ["a", "b"]
