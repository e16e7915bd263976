"""Runs that die, at each point and at any time: the outcome is that of one that did not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.streams.clicks import expected, make_log, outcome, stream
from tests.data.streams.conftest import send
from weiml.data.streams import Checkpoints, GrowingFiles, PartFiles, Quarantine, StreamRun

KILLS = 12


class Crash(BaseException):
    """Ends a run as a kill does: nothing is tidied up."""


def dying(method: Any, at: int, after: bool, calls: list[int]) -> Any:
    """Return the method, which crashes before or after its call number `at`."""

    def call(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == at and not after:
            raise Crash
        result = method(*args, **options)
        if calls[0] == at:
            raise Crash
        return result

    return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (GrowingFiles, "poll"),
        (Checkpoints, "save"),
        (PartFiles, "write"),
        (Quarantine, "write"),
        (GrowingFiles, "saved"),
    ],
)
def test_a_crash_at_any_point_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, after: bool
) -> None:
    lines = make_log(400, seed=3)
    (tmp_path / "log").write_bytes(b"".join(line + b"\n" for line in lines))
    original, calls = getattr(kind, method), [0]
    monkeypatch.setattr(StreamRun, "_fail", lambda run: run._checkpoints.close())
    for at in (1, 3, 2):
        calls[0] = 0
        monkeypatch.setattr(kind, method, dying(original, at, after, calls))
        with pytest.raises(Crash):
            settle(tmp_path)
    monkeypatch.setattr(kind, method, original)
    settle(tmp_path)
    assert outcome(tmp_path) == expected([lines])


def settle(folder: Path) -> None:
    stream(GrowingFiles(folder / "log"), folder, checkpoint_every="1ms", poll_s=0.0).run("end")


@pytest.mark.slow
@pytest.mark.process
def test_kills_at_any_time_reading_a_growing_file(tmp_path: Path, root: Path) -> None:
    lines = make_log(2500, seed=5)
    chances = random.Random(5)
    (tmp_path / "in").mkdir()
    data = b"".join(line + b"\n" for line in lines)
    middle = data.index(b"\n", len(data) // 2) + 1  # a second file begins, read or not
    cuts = sorted([middle, *(chances.randrange(len(data)) for _ in range(10 * KILLS))])

    def write() -> Iterator[None]:
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            name = f"events-{1 + int(start >= middle)}.log"
            with (tmp_path / "in" / name).open("ab") as file:
                file.write(data[start:stop])
            yield

    killed(["files", str(tmp_path / "in")], tmp_path, root, chances, write())
    assert outcome(tmp_path) == expected([lines])


@pytest.mark.slow
@pytest.mark.process
def test_kills_at_any_time_reading_a_broker(
    tmp_path: Path, root: Path, broker: str, topic: Callable[[int], str]
) -> None:
    name, chances = topic(2), random.Random(6)
    logs = [make_log(1200, seed=7, of=2, part=part) for part in range(2)]

    def write() -> Iterator[None]:
        for start in range(0, 1500, 15):
            for partition, lines in enumerate(logs):
                send(broker, name, lines[start : start + 15], partition)
            yield

    killed(["kafka", f"{broker}|{name}"], tmp_path, root, chances, write())
    assert outcome(tmp_path) == expected(logs)


def killed(
    arguments: list[str],
    folder: Path,
    root: Path,
    chances: random.Random,
    writing: Iterator[None],
) -> None:
    """Run the program while events are written, kill it many times, then let it end."""
    kills = 0
    while kills < KILLS:
        (folder / "alive").unlink(missing_ok=True)
        process = start(arguments, folder, root)
        wait_for(lambda p=process: (folder / "alive").exists() or p.poll() is not None)  # type: ignore[misc]
        until = time.monotonic() + chances.random() * 0.4
        while time.monotonic() < until:
            next(writing, None)
        assert process.poll() is None, f"the program ended by itself: {process.returncode}"
        process.kill()
        process.wait()
        kills += 1
    for _ in writing:
        pass
    (folder / "over").touch()
    process = start(arguments, folder, root)
    assert process.wait(60) == 0


def start(arguments: list[str], folder: Path, root: Path) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "tests.data.streams.clicks", *arguments, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(program, cwd=root, env=environment)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)
