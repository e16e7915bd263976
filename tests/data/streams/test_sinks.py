from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from weiml.data.streams import CallSink, PartFiles, Quarantine, RawEvents
from weiml.errors import ConfigError, DataError


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_results_that_come_again_replace_themselves(
    tmp_path: Path, format: Literal["parquet", "arrow"]
) -> None:
    read = pq.read_table if format == "parquet" else pyarrow.feather.read_table
    sink = PartFiles(tmp_path, format)
    sink.begin(0, "mine")
    for number in (1, 2, 2, 3):
        sink.write(number, {"s": pa.table({"n": [number]}), "empty": pa.table({"n": []})})
    sink.begin(2, "mine")
    (tmp_path / "s" / f".part-00000003.{format}").touch()
    sink.begin(2, "mine")
    files = sorted(tmp_path.glob("*/*"))
    assert [file.name for file in files] == [f"part-0000000{n}.{format}" for n in (1, 2)]
    assert [read(file)["n"].to_pylist() for file in files] == [[1], [2]]


@pytest.mark.parametrize(("number", "run"), [(0, "mine"), (0, "another"), (2, "another")])
def test_results_of_another_run_are_never_deleted(tmp_path: Path, number: int, run: str) -> None:
    sink = PartFiles(tmp_path)
    sink.begin(0, "mine")
    sink.begin(0, "mine")  # nothing was written
    for part in (1, 2, 3):
        sink.write(part, {"s": pa.table({"n": [part]})})
    with pytest.raises(ConfigError, match="checkpoint_dir that they belong to"):
        PartFiles(tmp_path).begin(number, run)
    assert len(list(tmp_path.glob("s/part-*"))) == 3


def test_files_of_unknown_origin_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "part-00000007.parquet").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="up to number 7"):
        PartFiles(tmp_path).begin(3, "mine")
    assert (tmp_path / "s" / "part-00000007.parquet").read_bytes() == b"precious"


def test_files_and_their_folders_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    PartFiles(tmp_path / "new" / "out").write(1, {"s": pa.table({"n": [1]})})
    out = tmp_path / "new" / "out"
    above = [tmp_path, tmp_path / "new", out]
    assert synced == [*map(str, above), f"{out}/s/.part-00000001.parquet", f"{out}/s"]
    synced.clear()
    quarantine = Quarantine(tmp_path / "bad")
    quarantine.add(RawEvents.of_values([b"x"]), [0], ["why"])
    quarantine.write(1)
    assert synced[:2] == [str(tmp_path), str(tmp_path / "bad")]
    assert synced[-1] == str(next((tmp_path / "bad").iterdir()))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    with pytest.raises(DataError, match="part-00000001"):
        PartFiles(tmp_path).write(1, {"s": pa.table({"n": [1]})})


def test_a_function_is_called() -> None:
    calls: list[tuple[int, list[str]]] = []

    def take(number: int, tables: Mapping[str, pa.Table]) -> None:
        calls.append((number, list(tables)))

    sink = CallSink(take)
    sink.begin(3, "mine")
    sink.write(4, {"s": pa.table({"n": [1]})})
    sink.close()
    assert calls == [(4, ["s"])]
