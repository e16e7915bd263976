from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams import GrowingFiles, RawEvents
from weiml.errors import ConfigError, DataError


def values(raw: RawEvents) -> list[bytes]:
    return [raw.value(i) for i in range(len(raw))]


def poll(source: GrowingFiles, max_events: int = 1000) -> list[bytes]:
    return values(source.poll(max_events, 0.0))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def source_of(folder: Path, **options: bool) -> GrowingFiles:
    return GrowingFiles(folder, discover_every_s=0.0, forget_after_s=0.0, **options)


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    append(tmp_path / "a", b"one\n\ntw")
    with source_of(tmp_path) as source:
        assert poll(source) == [b"one"]
        assert poll(source) == []
        assert set(source.lag().values()) == {0}
        append(tmp_path / "a", b"o\r\nthr")
        assert set(source.lag().values()) == {8}
        raw = source.poll(10, 0.0)
        assert (values(raw), raw.offsets.tolist()) == ([b"two\r"], [5])


def test_new_files_are_found_and_all_get_their_turn(tmp_path: Path) -> None:
    append(tmp_path / "a", b"".join(b"a%d\n" % i for i in range(10)))
    append(tmp_path / ".hidden", b"no\n")
    with GrowingFiles([tmp_path / "*"], discover_every_s=0.0) as source:
        assert poll(source, 4) == [b"a0", b"a1", b"a2", b"a3"]
        append(tmp_path / "b", b"b0\n")
        found = poll(source, 4) + poll(source, 4)
        assert b"b0" in found
        assert [v for v in found + poll(source) if v[:1] == b"a"] == [
            b"a%d" % i for i in range(4, 10)
        ]


def test_a_sequence_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    append(tmp_path / "log-2", b"3\n")
    append(tmp_path / "log-1", b"1\n2\n")
    with source_of(tmp_path, sequence=True) as source:
        assert {source.clock(name) for name in source.partitions()} == {str(tmp_path)}
        assert poll(source, 1) + poll(source, 1) + poll(source, 1) == [b"1", b"2", b"3"]
        append(tmp_path / "log-1", b"late\n")
        assert poll(source) == [b"late"]


def test_rotation_by_renaming_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "events.log"
    append(log, b"1\n2\n")
    with GrowingFiles(tmp_path / "*.log", discover_every_s=0.0) as source:
        assert poll(source, 1) == [b"1"]
        log.rename(tmp_path / "events.log.1")  # beyond the pattern
        append(log, b"4\n")
        append(tmp_path / "events.log.1", b"3\n")
        assert sorted(poll(source)) == [b"2", b"3", b"4"]


def test_rotation_while_nobody_reads(tmp_path: Path) -> None:
    log = tmp_path / "events.log"
    append(log, b"1\n2\n")
    with GrowingFiles(tmp_path / "*.log") as source:
        assert poll(source, 1) == [b"1"]
        positions = source.position()
    log.rename(tmp_path / "events.log.1")
    append(log, b"3\n")
    with GrowingFiles(tmp_path / "*.log") as source:
        source.seek(positions)
        assert sorted(poll(source)) == [b"2", b"3"]


def test_a_file_that_was_cut_off_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "a"
    append(log, b"1\n2\n")
    with source_of(tmp_path) as source:
        assert poll(source) == [b"1", b"2"]
        before = source.partitions()
        log.write_bytes(b"3\n")
        assert poll(source) == [b"3"]
        assert source.partitions() != before
        log.write_bytes(b"4\n5\n6\n")  # longer than it was: only what it holds tells
        assert poll(source) == [b"4", b"5", b"6"]
        positions = source.position()
    log.write_bytes(b"7\n8\n9\n")
    with source_of(tmp_path) as source, caplog.at_level(logging.WARNING):
        source.seek(positions)
        assert poll(source) == [b"7", b"8", b"9"]
    assert "cut off" in caplog.text


def test_a_copy_that_was_brought_back_goes_on(tmp_path: Path) -> None:
    append(tmp_path / "a", b"1\n2\n")
    with source_of(tmp_path) as source:
        assert poll(source, 1) == [b"1"]
        positions = source.position()
    shutil.copy(tmp_path / "a", tmp_path / "b")
    os.replace(tmp_path / "b", tmp_path / "a")
    with source_of(tmp_path) as source:
        source.seek(positions)
        assert poll(source) == [b"2"]


def test_a_file_that_is_gone_is_told_as_lost_unless_it_was_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(tmp_path / "a", b"1\n2\n")
    append(tmp_path / "b", b"3\n")
    with source_of(tmp_path) as source:
        while poll(source, 1):
            pass
        read = source.position()
        source.seek({})
        assert len(poll(source, 1)) == 1
        half = source.position()
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    with source_of(tmp_path) as source, caplog.at_level(logging.WARNING):
        source.seek(read)
        assert not caplog.records
        source.seek(half)
        assert "is lost" in caplog.text


def test_closed_files_and_headers(tmp_path: Path) -> None:
    append(tmp_path / "a.csv", b"id,text\n1,a\n2,b")
    with source_of(tmp_path, closed=True, skip_header=True) as source:
        raw = source.poll(1, 0.0)
        assert (values(raw), raw.offsets.tolist()) == ([b"1,a"], [8])
        assert poll(source) == [b"2,b"]
        assert poll(source) == []


def test_a_line_without_end_is_an_error(tmp_path: Path) -> None:
    append(tmp_path / "a", b"x" * 5000)
    source = GrowingFiles(tmp_path, max_event_bytes=1000)
    with source, pytest.raises(DataError, match="max_event_bytes = 1000"):
        poll(source)
    with GrowingFiles(tmp_path, max_event_bytes=10_000) as source:
        append(tmp_path / "a", b"\n")
        assert poll(source, 1) == [b"x" * 5000]


def test_read_files_are_deleted_once_saved(tmp_path: Path) -> None:
    append(tmp_path / "1", b"a\n")
    append(tmp_path / "2", b"b\nhalf")
    append(tmp_path / "3", b"c\nd\n")
    with source_of(tmp_path, sequence=True, delete_read=True) as source:
        assert poll(source, 2) == [b"a", b"b"]
        saved = source.position()
        source.saved(saved, None)
        assert len(list(tmp_path.iterdir())) == 3  # nobody knows what the oldest holds
        source.saved(saved, saved)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
        assert poll(source) == [b"c", b"d"]
        source.saved(source.position(), saved)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
        source.saved(source.position(), source.position())
        assert [path.name for path in tmp_path.iterdir()] == ["3"]  # it may grow
        source.seek(source.position())
        assert poll(source) == []


def test_a_file_that_grew_after_the_oldest_checkpoint_stays(tmp_path: Path) -> None:
    append(tmp_path / "1", b"a\n")
    with source_of(tmp_path, sequence=True, delete_read=True) as source:
        assert poll(source) == [b"a"]
        oldest = source.position()  # at its end then, and the last one
        append(tmp_path / "2", b"b\n")
        assert poll(source) == [b"b"]
        source.saved(source.position(), oldest)
        assert (tmp_path / "1").exists()
        source.seek(oldest)
        append(tmp_path / "1", b"more\n")
        assert poll(source) == [b"more", b"b"]


def test_a_gap_in_a_sequence_is_an_error(tmp_path: Path) -> None:
    append(tmp_path / "1", b"a\n")
    with source_of(tmp_path, sequence=True) as source:
        assert poll(source) == [b"a"]
        last = source.position()
        append(tmp_path / "1", b"b\n")
        append(tmp_path / "2", b"c\n")
        assert poll(source) == [b"b", b"c"]
        read = source.position()
        (tmp_path / "1").unlink()
        with pytest.raises(DataError, match="up to byte 2 only.*backup"):
            source.seek(last)
        source.seek(read)
        assert poll(source) == []


def test_a_name_stays_with_what_a_file_holds(tmp_path: Path) -> None:
    append(tmp_path / "a", b"1\n")
    with source_of(tmp_path) as source:
        poll(source)
        [name] = source.partitions()
        (tmp_path / "a").rename(tmp_path / "b")
        append(tmp_path / "b", b"2\n")
        assert poll(source) == [b"2"]
        assert source.partitions() == (name,)
        positions = source.position()
        (tmp_path / "b").rename(tmp_path / "c")
        source.seek(positions)
        assert source.partitions() == (name,)
        (tmp_path / "c").write_bytes(b"others\n")  # the same inode
        source.seek(positions)
        assert poll(source) == [b"others"]
        assert name not in source.partitions()


@given(
    st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=20),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5), st.booleans()), max_size=12),
)
def test_every_line_comes_once_however_it_is_written_and_read(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    turns: list[tuple[int, int, bool]],
) -> None:
    folder = tmp_path_factory.mktemp("files")
    data, found = b"".join(line + b"\n" for line in lines), list[bytes]()
    source = source_of(folder)
    for size, max_events, restart in turns:
        append(folder / "a", data[:size])
        data = data[size:]
        found += poll(source, max_events)
        if restart:
            positions = source.position()
            source.close()
            source = source_of(folder)
            source.seek(positions)
    append(folder / "a", data)
    while some := poll(source, 7):
        found += some
    source.close()
    assert found == [line for line in lines if line]


def test_paths_are_needed() -> None:
    with pytest.raises(ConfigError, match="paths"):
        GrowingFiles([])
