"""Files read past the system's cache are read whole, and their memory is used again."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weiml.ps.checkpoint import direct
from weiml.ps.checkpoint.direct import Rooms, is_cached, pieces_of


def written(folder: Path, size: int) -> tuple[str, bytes]:
    content = np.random.default_rng(size).bytes(size)
    file = folder / "file"
    file.write_bytes(content)
    return str(file), content


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blocks=st.integers(0, 700), rest=st.sampled_from([0, 1, 511, 512, 4095]), direct_=st.booleans()
)
def test_a_file_of_any_size_is_read_whole(
    tmp_path: Path, blocks: int, rest: int, direct_: bool
) -> None:
    path, content = written(tmp_path, 4096 * blocks + rest)
    room = Rooms().take(len(content))
    with pytest.MonkeyPatch.context() as patch:
        if not direct_:
            patch.setattr(direct, "_DIRECT", 0)
        pieces = [bytes(piece) for piece in pieces_of(path, room)]
    assert b"".join(pieces) == content
    assert bytes(room[: len(content)]) == content


def test_a_file_system_that_cannot_read_directly_reads_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = written(tmp_path, (3 << 20) + 7)
    handles: list[int] = []
    read = os.preadv

    def refusing(handle: int, buffers: list[memoryview], offset: int) -> int:
        if not handles:
            handles.append(handle)
            raise OSError(errno.EINVAL, "no")
        return read(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", refusing)
    pieces = [bytes(piece) for piece in pieces_of(path, Rooms().take(len(content)))]
    assert b"".join(pieces) == content


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTSUP, errno.ENOMEM, errno.EAGAIN])
@pytest.mark.parametrize("after", [0, 2])
def test_a_direct_read_that_fails_goes_on_as_usual_at_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: int
) -> None:
    path, content = written(tmp_path, (4 << 20) + 7)
    asked: list[int] = []
    read = os.preadv

    def failing(handle: int, buffers: list[memoryview], offset: int) -> int:
        asked.append(offset)
        if len(asked) == after + 1:
            raise OSError(number, "no")
        return read(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    monkeypatch.setattr(direct, "_DIRECT", os.O_NOFOLLOW)  # every file system can that
    pieces = [bytes(piece) for piece in pieces_of(path, Rooms().take(len(content)))]
    assert b"".join(pieces) == content
    assert asked[after + 1] == asked[after] == after << 20


def test_a_file_that_cannot_be_opened_directly_is_opened_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = written(tmp_path, (1 << 20) + 7)
    real = os.open

    def refusing(place: str, flags: int) -> int:
        if flags != os.O_RDONLY:
            raise OSError(errno.EPERM, "no")
        return real(place, flags)

    monkeypatch.setattr(os, "open", refusing)
    pieces = [bytes(piece) for piece in pieces_of(path, Rooms().take(len(content)))]
    assert b"".join(pieces) == content


@pytest.mark.parametrize("short", [1, 512, 4096, 5000])
def test_a_short_read_is_not_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    path, content = written(tmp_path, (3 << 20) + 7)
    turns: list[int] = []
    read = os.preadv

    def hesitating(handle: int, buffers: list[memoryview], offset: int) -> int:
        turns.append(offset)
        count = read(handle, buffers, offset)
        return min(count, short) if len(turns) == 2 else count

    monkeypatch.setattr(os, "preadv", hesitating)
    pieces = [bytes(piece) for piece in pieces_of(path, Rooms().take(len(content)))]
    assert b"".join(pieces) == content


def test_other_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    path, _ = written(tmp_path, 1 << 20)
    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OSError, match="broken"):
        list(pieces_of(path, Rooms().take(1 << 20)))
    with pytest.raises(FileNotFoundError):
        list(pieces_of(path + "x", Rooms().take(1 << 20)))


def test_a_room_is_used_again_when_nothing_refers_to_it() -> None:
    rooms = Rooms()
    first = rooms.take(10_000)
    assert len(first) == 12_288
    place = np.frombuffer(first, np.uint8).ctypes.data
    part = np.frombuffer(first[5000:], np.uint16)[3:]
    del first
    second = rooms.take(10_000)
    assert np.frombuffer(second, np.uint8).ctypes.data != place
    del part
    third = rooms.take(9000)
    assert np.frombuffer(third, np.uint8).ctypes.data == place
    assert len(third) == 12_288
    del third
    assert len(rooms.take(1 << 22)) == 1 << 22


def test_rooms_come_back_while_one_is_taken() -> None:
    """The garbage collector may run at any moment, and give back rooms in the thread it finds."""
    rooms = Rooms()
    leases: list[memoryview] = []

    def give_one_back(*_: object) -> Callable[..., Any]:
        if leases:
            leases.pop()
        return give_one_back

    def take() -> None:
        leases.extend(rooms.take(1) for _ in range(20))
        sys.settrace(give_one_back)  # called at every line
        try:
            for _ in range(5):
                rooms.take(1)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert not leases


def test_a_kernel_that_takes_no_advice_gives_memory_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Plain(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(errno.EINVAL, "no such advice")

    monkeypatch.setattr(mmap, "mmap", Plain)
    assert len(Rooms().take(5000)) == 8192


def test_a_file_just_written_is_cached_where_that_can_be_asked(tmp_path: Path) -> None:
    path, _ = written(tmp_path, 100_000)
    assert is_cached(path)
