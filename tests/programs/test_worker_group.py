"""The program that launches a worker group and looks whether its collectives work."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from weiml.config import load_config
from weiml.group import WorkerGroupConfig
from weiml.ps.processes.liveness import is_running

pytestmark = pytest.mark.process

DEADLINE_S = 240.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "actors.worker_group", *arguments]


def environment(mark: str = "") -> dict[str, str]:
    """Return the environment without a cluster to join; processes below can be told by `mark`."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {"WEIML_TEST_MARK": mark}


def marked(mark: str) -> set[int]:
    """Return the processes, Ray's too, whose environment holds `mark`."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
    return found


def left_of(mark: str) -> set[int]:
    """Return the marked processes that are still there at a deadline."""
    deadline = time.monotonic() + 20
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@contextlib.contextmanager
def running(root: Path, *arguments: str, mark: str = "") -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("--json", "--set", "cpus_per_worker=0.5", *arguments),
        cwd=root,
        env=environment(mark),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_check_shows_where_the_workers_are_and_how_fast_they_reduce(
    root: Path, ray_session: None
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    with running(
        root, "--address", address, "--check", "--size", "1000", "--size", "64K"
    ) as program:
        assert program.stdout is not None
        shown = [json.loads(line) for line in program.stdout if line.startswith("{")]
        assert program.wait(DEADLINE_S) == 0
    first, *checks, last = shown
    assert (first["state"], first["backend"], first["num_workers"]) == ("running", "gloo", 2)
    assert [(w["rank"], w["device"]) for w in first["workers"]] == [(0, "cpu"), (1, "cpu")]
    assert [check["bytes"] for check in checks] == [1000, 65536]
    for check in checks:
        assert check["bus_bytes_per_second"] == check["algorithm_bytes_per_second"] > 0
    assert last == {"state": "closed", "restarts": 0}
    assert not any(is_running(worker["pid"]) for worker in first["workers"])


@pytest.mark.slow
def test_it_replaces_a_killed_worker_and_leaves_no_process_after_a_signal(root: Path) -> None:
    mark = uuid.uuid4().hex
    arguments = ["--size", "4K", "--interval-s", "0.1", "--set", "max_restarts=2"]
    with running(root, *arguments, mark=mark) as program:
        assert program.stdout is not None
        states = (json.loads(line) for line in program.stdout if line.startswith("{"))
        first = next(states)
        assert next(states)["state"] == "checked"
        os.kill(first["workers"][1]["pid"], signal.SIGKILL)
        broken = next(look for look in states if look["state"] != "checked")
        assert broken["state"] == "broken"
        assert "worker 1 of 2 died" in broken["error"]
        again = next(states)
        assert (again["state"], again["restarts"]) == ("running", 1)
        assert next(states)["state"] == "checked"
        os.killpg(program.pid, signal.SIGINT)
        assert [look["state"] for look in states][-1] == "closed"
        assert program.wait(DEADLINE_S) == 0
    assert left_of(mark) == set()


@pytest.mark.slow
def test_a_killed_program_leaves_no_worker(root: Path, ray_session: None) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    with running(root, "--address", address, "--size", "4K") as program:
        assert program.stdout is not None
        first = json.loads(program.stdout.readline())
        pids = [worker["pid"] for worker in first["workers"]]
        assert all(map(is_running, pids))
        program.kill()
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"of {pids} one is still there"
        time.sleep(0.05)


def test_the_example_configuration_is_one(root: Path) -> None:
    file = root / "configs" / "clusters" / "worker_group.toml"
    assert load_config(WorkerGroupConfig, file).fewest == 2


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--address", "127.0.0.1:1"], "no Ray cluster at '127.0.0.1:1'"),
        (["--backend", "glo"], "did you mean 'gloo'?"),
        (["--gpus-per-worker", "some"], "--gpus-per-worker must be a number or auto"),
        (["--size", "4X"], "--size must be bytes as 4096, 4K or 16M"),
        (["--set", "worker=3"], "unknown key 'worker'; did you mean"),
        pytest.param(
            ["--config", "nowhere.toml"],
            "--config nowhere.toml cannot be read",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_work_ends_at_once_with_one_clear_line(
    root: Path, arguments: list[str], what: str
) -> None:
    done = subprocess.run(
        command(*arguments),
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert what in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
