from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.data import Examples, FileSink, FileSource, col
from weiml.data.formats import Parquet
from weiml.data.sources.files import MANIFEST
from weiml.errors import ConfigError, DataError

NUMBERS = [pa.table({"n": np.arange(10 * i, 10 * i + 10)}) for i in range(3)]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_is_written_is_read_on_any_file_system(place: str) -> None:
    folder = f"{place}/out"
    assert Examples.of(NUMBERS).write(FileSink(folder)) == folder
    read = FileSource(folder).read()
    assert read.to_table()["n"].to_pylist() == list(range(30))
    assert len(FileSource(folder).files()) == 3
    Examples.of(NUMBERS[:1]).write(FileSink(folder, overwrite=True))
    assert FileSource(folder).read().count() == 10
    fs, path = fsspec.core.url_to_fs(folder)
    fs.invalidate_cache()
    assert len(fs.find(path)) == 2  # one part and the manifest: the old parts are gone


def test_others_read_our_folders_and_we_theirs(tmp_path: Path) -> None:
    Examples.of(NUMBERS).write(FileSink(f"{tmp_path}/ours"))
    assert pq.read_table(tmp_path / "ours").num_rows == 30
    theirs = tmp_path / "theirs" / "day=1"
    theirs.mkdir(parents=True)
    pq.write_table(NUMBERS[0], theirs / "b.parquet")
    pq.write_table(NUMBERS[1], theirs / "a.parquet")
    (theirs / "_SUCCESS").touch()
    (theirs / ".b.parquet.crc").touch()
    assert FileSource(f"{tmp_path}/theirs").read().to_table()["n"].to_pylist() == [
        *range(10, 20),
        *range(10),
    ]
    assert FileSource(f"{theirs}/a*.parquet").read().count() == 10
    assert FileSource([f"{theirs}/a.parquet", f"{theirs}/b.parquet"]).read().count() == 20


def test_a_folder_that_holds_something_is_not_overwritten_by_chance(tmp_path: Path) -> None:
    Examples.of(NUMBERS).write(FileSink(f"{tmp_path}/out"))
    with pytest.raises(DataError, match="not empty: pass overwrite=True"):
        Examples.of(NUMBERS).write(FileSink(f"{tmp_path}/out"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="weiml did not write, such as thesis.txt"):
        Examples.of(NUMBERS).write(FileSink(f"{tmp_path}/notes", overwrite=True))
    assert names(tmp_path / "notes") == {"thesis.txt"}


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fails(table: pa.Table) -> pa.Table:
        if table.num_rows and table["n"][0].as_py() == 20:
            raise DataError("broken on purpose")
        return table

    broken = Examples.of(NUMBERS).map(fails)
    with pytest.raises(DataError, match="on purpose"):
        broken.write(FileSink(f"{tmp_path}/new"))
    assert names(tmp_path / "new") == {MANIFEST}
    with pytest.raises(DataError, match="has not ended"):
        FileSource(f"{tmp_path}/new").read()
    Examples.of(NUMBERS[:2]).write(FileSink(f"{tmp_path}/old"))
    before = names(tmp_path / "old")
    with pytest.raises(DataError, match="on purpose"):
        broken.write(FileSink(f"{tmp_path}/old", overwrite=True))
    assert names(tmp_path / "old") == before
    assert FileSource(f"{tmp_path}/old").read().count() == 20


def test_a_write_that_was_killed_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    writer = FileSink(f"{tmp_path}/out").open(NUMBERS[0].schema)
    writer.write(0, NUMBERS[:1])  # and then the process is gone
    with pytest.raises(DataError, match="a write to it has not ended"):
        FileSource(f"{tmp_path}/out").read()
    Examples.of(NUMBERS[1:2]).write(FileSink(f"{tmp_path}/out"))
    assert FileSource(f"{tmp_path}/out").read().to_table()["n"].to_pylist() == [*range(10, 20)]
    assert len(names(tmp_path / "out")) == 2


def test_no_examples_are_written_as_an_empty_part_with_columns(tmp_path: Path) -> None:
    Examples.of(NUMBERS).filter(col("n") > 99).write(FileSink(f"{tmp_path}/out"))
    read = FileSource(f"{tmp_path}/out").read()
    assert read.schema == NUMBERS[0].schema
    assert read.count() == 0


def test_row_groups_are_pieces_and_files_may_order_columns_as_they_like(tmp_path: Path) -> None:
    table = pa.table({"n": np.arange(10), "m": np.arange(10)})
    with (tmp_path / "a.parquet").open("wb") as file:
        Parquet(rows_per_group=4).write(file, [table], table.schema)
    other = pa.table({"m": pa.array(range(3), pa.int32()), "n": pa.array(range(3), pa.int32())})
    pq.write_table(other, tmp_path / "b.parquet")
    source = FileSource(str(tmp_path))
    assert len(source.pieces()) == 4
    assert all(piece.num_bytes for piece in source.pieces())
    assert source.read().to_table()["n"].to_pylist() == [*range(10), *range(3)]
    pq.write_table(other.drop(["m"]), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="c.parquet: no column 'm'"):
        FileSource(str(tmp_path)).read().to_table()


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files at"):
        FileSource(f"{tmp_path}/nothing").read()
    with pytest.raises(ConfigError, match="cannot be opened"):
        FileSource("nosuch://bucket/x").read()
    (tmp_path / "_weiml.json").write_text('{"parts": [{"file": "../secret.parquet"}]}')
    with pytest.raises(DataError, match="outside its folder"):
        FileSource(str(tmp_path)).read()
    (tmp_path / "_weiml.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        FileSource(str(tmp_path)).read()


def test_a_folder_below_another_is_nobodys_business_but_its_own(tmp_path: Path) -> None:
    below = FileSink(f"{tmp_path}/day/13")
    Examples.of(NUMBERS[:1]).write(FileSink(f"{tmp_path}/day"))
    Examples.of(NUMBERS[1:2]).write(below)
    Examples.of(NUMBERS[2:]).write(FileSink(f"{tmp_path}/day", overwrite=True))
    assert FileSource(f"{tmp_path}/day/13").read().to_table()["n"].to_pylist() == [*range(10, 20)]
    assert FileSource(f"{tmp_path}/day").read().to_table()["n"].to_pylist() == [*range(20, 30)]


def test_patterns_see_what_manifests_name(tmp_path: Path) -> None:
    for day in ("01", "02"):
        Examples.of(NUMBERS[:1]).write(FileSink(f"{tmp_path}/{day}"))
    FileSink(f"{tmp_path}/03").open(NUMBERS[0].schema).write(0, NUMBERS[:1])
    assert FileSource(f"{tmp_path}/0*").read().count() == 20
    assert FileSource(f"{tmp_path}/0*/*.parquet").read().count() == 20
    assert FileSource(f"{tmp_path}/01/*").read().count() == 10


def test_a_cleanup_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weiml.data.sources import files

    Examples.of(NUMBERS[:1]).write(FileSink(f"{tmp_path}/out"))

    def refused(fs: Any, paths: Iterable[str]) -> None:
        if list(paths):
            raise PermissionError("not yours")

    monkeypatch.setattr(files, "_remove", refused)
    Examples.of(NUMBERS[1:2]).write(FileSink(f"{tmp_path}/out", overwrite=True))
    assert FileSource(f"{tmp_path}/out").read().to_table()["n"].to_pylist() == [*range(10, 20)]
    monkeypatch.undo()
    writer = FileSink(f"{tmp_path}/out", overwrite=True).open(NUMBERS[0].schema)
    writer.commit([writer.write(0, NUMBERS[2:])])
    writer.abort()  # as after a Ctrl-C that came too late
    assert FileSource(f"{tmp_path}/out").read().to_table()["n"].to_pylist() == [*range(20, 30)]


def test_file_systems_that_do_not_put_files_whole_get_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    from weiml.data.sources import files

    place = DirFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(files, "_resolved", lambda url, storage: (place, url.strip("/")))
    Examples.of(NUMBERS[:1]).write(FileSink("out"))
    moved: list[str] = []
    real = DirFileSystem.mv

    def mv(fs: Any, source: str, target: str) -> None:
        moved.append(target)
        real(fs, source, target)

    monkeypatch.setattr(DirFileSystem, "mv", mv)
    Examples.of(NUMBERS[1:2]).write(FileSink("out", overwrite=True))
    assert [name.rpartition("/")[2][:5] for name in moved] == ["part-", MANIFEST[:5]]


def test_columns_may_be_declared(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("zip,x\n007,1\n")
    schema = pa.schema({"zip": pa.string(), "x": pa.float32()})
    read = FileSource(f"{tmp_path}/x.csv", schema=schema).read().to_table()
    assert read.to_pylist() == [{"zip": "007", "x": 1.0}]


def test_what_a_format_cannot_hold_is_told_before_anything_runs(tmp_path: Path) -> None:
    lists = Examples.of(pa.table({"x": [[1, 2]]}))
    with pytest.raises(DataError):
        lists.write(FileSink(f"{tmp_path}/out", format="libsvm"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        lists.write(FileSink(f"{tmp_path}/file"))


def test_pieces_may_be_written_twice(tmp_path: Path) -> None:
    """As when a task is run again because its first process died."""
    writer = FileSink(f"{tmp_path}/out").open(NUMBERS[0].schema)
    written: list[Any] = []
    for tables in (NUMBERS[:1], NUMBERS[:1]):
        given: Iterable[pa.Table] = iter(tables)
        written = [writer.write(0, given)]
    writer.commit(written)
    assert FileSource(f"{tmp_path}/out").read().count() == 10
