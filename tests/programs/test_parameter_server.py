"""The program actors/parameter_server.py: it serves others, saves, and leaves nothing behind."""

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
from typing import IO, Any

import numpy as np
import pytest

from weiml.config import load_config
from weiml.ps import (
    SGD,
    EmbeddedParameterServer,
    GroupConfig,
    RayParameterServer,
    TableConfig,
    list_groups,
)
from weiml.ps.checkpoint import CheckpointStore
from weiml.ps.processes.liveness import is_running

pytestmark = pytest.mark.process
DEADLINE_S = 90.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "actors.parameter_server", *arguments]


def environment(mark: str = "") -> dict[str, str]:
    """Return the environment without a cluster to join; processes below can be told by `mark`."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {"WEIML_TEST_MARK": mark}


def looks(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """Yield the JSON lines of the program."""
    for line in stream:
        if line.startswith("{"):
            yield json.loads(line)


def marked(mark: str) -> set[int]:
    """Return the processes, Ray's and shards' too, whose environment holds `mark`."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or not ours
    return found


def left_of(mark: str) -> set[int]:
    """Return the marked processes that are still there at a deadline."""
    deadline = time.monotonic() + 20
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def listening_beyond_loopback(pids: set[int]) -> list[str]:
    """Return the addresses, as /proc writes them, where the processes accept from outside."""
    sockets = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(handle))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            address, state, inode = words[1], words[3], words[9]
            # 0A: listening. The bytes of 127.0.0.1 are written backwards in 32-bit words.
            if f"socket:[{inode}]" in sockets and state == "0A":
                host = address.partition(":")[0]
                if not host.endswith("0100007F") and host != "0" * 24 + "01000000":
                    found.append(address)
    return found


def push_from_elsewhere(root: Path, address: str) -> None:
    """Push to the served table from another process, which finds the group by its name."""
    code = f"""
from weiml.cluster import join_ray
join_ray({address!r})  # before Ray is imported: it reads then whether to show its token
import numpy as np
from weiml.ps import RayParameterServer
client = RayParameterServer.connect("served").client()
keys = np.arange(20, dtype=np.uint64)
client.push("t", keys, np.full((20, 1), 2.0, np.float32)).wait()
"""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=environment(),
        timeout=DEADLINE_S,
        check=True,
    )


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_it_serves_until_a_signal_then_saves_and_leaves_no_process(
    root: Path, tmp_path: Path, number: signal.Signals
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    keys = np.arange(20, dtype=np.uint64)
    with EmbeddedParameterServer() as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        ps.client().push("t", keys, np.ones((20, 1), np.float32))
        ps.save(str(source))
    arguments = ["--json", "--interval-s", "0.2", "--name", "served", "--workers", "3"]
    arguments += ["--load-from", str(source), "--save-to", str(target), "--address", "local"]
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        command(*arguments),
        cwd=root,
        env=environment(mark),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            states = looks(process.stdout)
            started = next(states)
            assert started["state"] == "started"
            assert started["ray_address"].startswith("127.0.0.1:")
            assert listening_beyond_loopback(marked(mark)) == []
            loaded, first = next(states), next(states)
            assert (loaded["state"], loaded["path"]) == ("loaded", str(source))
            assert first["state"] == "serving"
            assert first["rows"] == 20
            assert (first["name"], first["num_shards"], first["num_workers"]) == ("served", 2, 3)
            assert (first["group_state"], first["degraded"]) == ("running", [])
            assert {process.pid, *(shard["pid"] for shard in first["shards"])} <= marked(mark)
            push_from_elsewhere(root, started["ray_address"])
            if number is signal.SIGINT:
                os.killpg(process.pid, number)  # a terminal's Ctrl-C reaches the whole group
            else:
                process.send_signal(number)
            last = [status["state"] for status in states][-2:]
            assert last == ["saving", "closed"]
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
    assert left_of(mark) == set()
    with EmbeddedParameterServer(3) as ps:
        ps.load(str(target))
        values = ps.client().pull("t", keys).wait()
        assert values is not None
        assert values.tolist() == [[-3.0]] * 20


@contextlib.contextmanager
def running(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program in the Ray cluster of this process, until the block ends."""
    import ray

    address = ray.get_runtime_context().gcs_address
    with subprocess.Popen(
        command("--json", "--interval-s", "0.1", "--address", address, *arguments),
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def stored(store: Path) -> dict[str, np.ndarray]:
    """Return keys and payload of what the newest checkpoint of a store holds."""
    chain, skipped = CheckpointStore(store).open_latest()
    assert skipped == ()
    rows = [rows for rows in chain.rows() if rows.payload is not None]
    return {
        "keys": np.concatenate([part.keys for part in rows]),
        "payload": np.concatenate([part.payload for part in rows if part.payload is not None]),
    }


def expect_gone(name: str, pids: list[int]) -> None:
    """Wait until neither the group nor its processes are there."""
    deadline = time.monotonic() + 30
    while name in list_groups() or any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"{name} is still there, or a process of {pids}"
        time.sleep(0.05)


def test_it_ends_by_itself_with_a_checkpoint_when_the_last_worker_is_done(
    root: Path, tmp_path: Path, ray_session: None
) -> None:
    store = tmp_path / "store"
    arguments = ["--name", "done", "--workers", "2", "--shards", "1", "--staleness", "none"]
    arguments += ["--checkpoint-root", str(store), "--end-when-done"]
    keys = np.arange(20, dtype=np.uint64)
    with running(root, *arguments) as process:
        assert process.stdout is not None
        states = looks(process.stdout)
        assert next(states)["state"] == "started"
        pids = [pid for pid, _ in next(states)["processes"]]
        ps = RayParameterServer.connect("done")
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        for worker in (0, 1):
            client = ps.client(worker)
            client.push("t", keys, np.ones((20, 1), np.float32))
            client.tick()
            assert process.poll() is None
            client.finish()
        assert [status["state"] for status in states][-2:] == ["done", "closed"]
        assert process.wait(DEADLINE_S) == 0
    expect_gone("done", pids)
    saved = stored(store)
    assert sorted(saved["keys"].tolist()) == keys.tolist()
    assert (saved["payload"].view(np.float32) == -2.0).all()


def test_a_group_whose_program_was_killed_saves_and_ends_by_its_lease(
    root: Path, tmp_path: Path, ray_session: None
) -> None:
    store = tmp_path / "store"
    arguments = ["--name", "leased", "--shards", "1", "--set", f"checkpoint_root={store}"]
    with running(root, *arguments, "--lease-s", "2") as process:
        assert process.stdout is not None
        states = looks(process.stdout)
        assert next(states)["state"] == "started"
        pids = [pid for pid, _ in next(states)["processes"]]
        ps = RayParameterServer.connect("leased")
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        ps.client().push("t", np.array([7], np.uint64), np.ones((1, 1), np.float32)).wait()
        process.kill()
    assert "leased" in list_groups()
    expect_gone("leased", pids)
    assert stored(store)["keys"].tolist() == [7]


def test_the_example_configuration_is_one(root: Path) -> None:
    file = root / "configs" / "clusters" / "parameter_server.toml"
    assert load_config(GroupConfig, file).replicas == 2


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--address", "127.0.0.1:1"], "no Ray cluster at '127.0.0.1:1'"),
        (["--staleness", "some"], "--staleness must be a number or none, got 'some'"),
        (["--save-to", "."], "--save-to . exists already"),
        (["--save-to", "x", "--end-when-done"], "--save-to is for an end that this program"),
        (["--set", "lease=3"], "unknown key 'lease'; did you mean 'lease_s'?"),
        (["--config", "nowhere.toml"], "--config nowhere.toml cannot be read"),
        (["--resume"], "--resume needs a --checkpoint-root"),
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


@pytest.mark.slow
def test_a_damaged_checkpoint_ends_it_and_leaves_no_process(root: Path, tmp_path: Path) -> None:
    with EmbeddedParameterServer() as ps:
        ps.create_table(TableConfig("t", optimizer=SGD()))
        ps.client().push("t", np.arange(3, dtype=np.uint64), np.ones((3, 1), np.float32))
        ps.save(str(tmp_path / "c"))
    file = next((tmp_path / "c").rglob("rows-t-*.arrow"))
    file.write_bytes(file.read_bytes()[:-1])
    arguments = ["--load-from", str(tmp_path / "c"), "--address", "local", "--shards", "1"]
    mark = uuid.uuid4().hex
    done = subprocess.run(
        command(*arguments),
        cwd=root,
        env=environment(mark),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert f"{file.name} is damaged" in done.stderr
    assert left_of(mark) == set()
