from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from weiml.data.streams import CallSink, PartFiles
from weiml.errors import DataError


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_results_that_come_again_replace_themselves(
    tmp_path: Path, format: Literal["parquet", "arrow"]
) -> None:
    read = pq.read_table if format == "parquet" else pyarrow.feather.read_table
    sink = PartFiles(tmp_path, format)
    for number in (1, 2, 2, 3):
        sink.write(number, {"s": pa.table({"n": [number]}), "empty": pa.table({"n": []})})
    sink.begin(2)
    (tmp_path / "s" / f".part-00000003.{format}").touch()
    sink.begin(2)
    files = sorted(tmp_path.glob("*/*"))
    assert [file.name for file in files] == [f"part-0000000{n}.{format}" for n in (1, 2)]
    assert [read(file)["n"].to_pylist() for file in files] == [[1], [2]]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    with pytest.raises(DataError, match="part-00000001"):
        PartFiles(tmp_path).write(1, {"s": pa.table({"n": [1]})})


def test_a_function_is_called() -> None:
    calls: list[tuple[int, list[str]]] = []

    def take(number: int, tables: Mapping[str, pa.Table]) -> None:
        calls.append((number, list(tables)))

    sink = CallSink(take)
    sink.begin(3)
    sink.write(4, {"s": pa.table({"n": [1]})})
    sink.close()
    assert calls == [(4, ["s"])]
