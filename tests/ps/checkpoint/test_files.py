"""Files are cut by size, summed as they are written, and given up without a trace."""

from __future__ import annotations

import gc
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.checksum import Bytes, checksum_of
from weiml.ps.checkpoint.columns import values_batch
from weiml.ps.checkpoint.files import ArrowParts, FileWriter, Part, Syncer
from weiml.ps.checkpoint.storage import Folder

SCHEMA = pa.schema([("value", pa.float32())])


def written(folder: Folder, arrays: list[np.ndarray], part_bytes: int | None) -> list[Part]:
    done: list[Part] = []
    folder.make()
    with Syncer(2) as syncer:
        with ArrowParts(
            folder=folder,
            stem="x",
            schema=SCHEMA,
            part_bytes=part_bytes,
            syncer=syncer,
            record=done.append,
        ) as parts:
            for i, array in enumerate(arrays):
                parts.add(values_batch(array), (i, i + 1))
        syncer.finish()
    return done


def test_what_is_recorded_is_what_is_there(place: str, rng: np.random.Generator) -> None:
    arrays = [rng.normal(size=n).astype(np.float32) for n in (1000, 500, 3)]
    (part,) = written(Folder.at(place), arrays, None)
    content = bytes(Folder.at(place).read("x-00000.arrow"))
    assert part == Part(
        name="x-00000.arrow",
        rows=1503,
        bytes=len(content),
        checksum=checksum_of(content),
        spans=[(0, 1), (1, 2), (2, 3)],
    )
    values = pa.ipc.open_file(pa.py_buffer(content)).read_all().column("value").to_numpy()
    assert np.array_equal(values, np.concatenate(arrays))


def test_a_file_that_is_big_enough_is_followed_by_another(
    place: str, rng: np.random.Generator
) -> None:
    arrays = [rng.normal(size=1000).astype(np.float32) for _ in range(7)]
    parts = written(Folder.at(place), arrays, 8000)
    assert [part.rows for part in parts] == [2000, 2000, 2000, 1000]
    assert [part.spans for part in parts] == [
        [(0, 1), (1, 2)],
        [(2, 3), (3, 4)],
        [(4, 5), (5, 6)],
        [(6, 7)],
    ]
    assert all(part.bytes < 8000 + 4000 + 1000 for part in parts)
    assert sorted(Folder.at(place).sizes()) == [f"x-0000{i}.arrow" for i in range(4)]


def test_nothing_written_makes_no_file(place: str) -> None:
    assert written(Folder.at(place), [], None) == []
    assert Folder.at(place).sizes() == {}


def test_a_file_given_up_does_not_appear_in_an_object_store(bucket: str) -> None:
    folder = Folder.at(f"{bucket}/given-up")
    file = FileWriter(folder, "f")
    file.write(b"x" * 1000)
    file.discard()
    file.close()
    assert folder.sizes() == {}


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    with pytest.raises(ParameterServerError, match="/f could not be written.*exists"):
        FileWriter(Folder.at(tmp_path), "f")
    assert (tmp_path / "f").read_text() == "mine"


def test_an_error_of_the_file_system_comes_out_of_arrow_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    folder = Folder.at("memory://full")
    folder.make()
    file = type(memory.open("/full/probe", "wb"))
    monkeypatch.setattr(file, "write", full)
    with pytest.raises(ParameterServerError, match="memory://full/x-00000.arrow.*No space left"):
        written(folder, [np.ones(10, np.float32)], None)


@pytest.mark.parametrize("written_first", [1, 2])
def test_a_file_whose_end_cannot_be_written_is_given_up(
    bucket: str, monkeypatch: pytest.MonkeyPatch, written_first: int
) -> None:
    folder = Folder.at(f"{bucket}/no-end-{written_first}")
    files: list[FileWriter] = []
    count = 0
    write = FileWriter.write

    def full(file: FileWriter, data: Bytes) -> int:
        nonlocal count
        count += 1
        if count == written_first + 1:
            files.append(file)
            raise ParameterServerError("no space left")
        return write(file, data)

    monkeypatch.setattr(FileWriter, "write", full)
    arrays = [np.ones(10_000, np.float32)]
    with pytest.raises(ParameterServerError, match="no space left") as caught:
        written(folder, arrays, None)
    del caught
    gc.collect()  # what is collected before it is given up closes itself, which uploads it
    assert [file._given_up for file in files] == [True]
    assert folder.sizes() == {}


def test_a_file_that_cannot_be_recorded_is_given_up(bucket: str) -> None:
    folder = Folder.at(f"{bucket}/not-recorded")

    def refuse(_: Part) -> None:
        raise ZeroDivisionError

    with Syncer(1) as syncer:
        parts = ArrowParts(
            folder=folder, stem="x", schema=SCHEMA, part_bytes=None, syncer=syncer, record=refuse
        )
        parts.add(values_batch(np.ones(10, np.float32)))
        with pytest.raises(ZeroDivisionError):
            parts.finish()
        parts.finish()  # there is nothing to end any more
    gc.collect()
    assert folder.sizes() == {}
