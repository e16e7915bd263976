"""What only the Ray server does: processes that come, die and go, and workers at the same time."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps import (
    FTRL,
    SGD,
    Adagrad,
    Client,
    EmbeddedParameterServer,
    ParameterServer,
    RayParameterServer,
    TableConfig,
    list_groups,
)

KEYS = np.arange(40, dtype=np.uint64) * 977
TICKS = 6


@pytest.fixture(scope="module")
def ps(ray_session: None) -> Iterator[RayParameterServer]:
    with RayParameterServer.create(2, 2, 0, "group") as server:
        yield server


def tables(ps: ParameterServer, prefix: str = "") -> None:
    ps.create_table(TableConfig(f"{prefix}wide", optimizer=FTRL(alpha=0.3, l1=0.01)))
    ps.create_table(TableConfig(f"{prefix}deep", dim=3, optimizer=Adagrad(), init_scale=0.1))
    ps.create_vector(f"{prefix}dense", np.zeros(10, np.float32))


def work(client: Client, tick: int) -> None:
    """Do one step whose pushes depend on what was pulled, so that order shows in the bits."""
    rng = np.random.default_rng([tick, client.worker or 0])
    keys = np.unique(rng.choice(KEYS, 30))
    rule = FTRL(alpha=0.3, l1=0.01)
    state = client.pull("wide", keys, "state").wait()
    rows = client.pull("deep", keys).wait()
    vector = client.pull_vector("dense").wait()
    assert state is not None
    assert rows is not None
    assert vector is not None
    noise = rng.normal(size=(len(keys), 1)).astype(np.float32)
    grads = np.tanh(rule.weights(state) + noise).astype(np.float32)
    client.push("wide", keys, rule.update(state, grads) - state, "differences")
    client.push("deep", keys, rows * noise + grads)
    client.push_vector("dense", (np.cos(vector) * np.float32(0.1)).astype(np.float32))
    client.tick()


def content(ps: ParameterServer) -> list[np.ndarray]:
    client = ps.client()
    tickets = [client.pull("wide", KEYS, "state"), client.pull("deep", KEYS, "state")]
    tickets.append(client.pull_vector("dense"))
    return [np.asarray(ticket.wait()) for ticket in tickets]


def test_workers_side_by_side_under_bsp_equal_one_thread_bit_for_bit(
    ps: RayParameterServer,
) -> None:
    tables(ps)

    def run(worker: int) -> None:
        client = ps.client(worker)
        for tick in range(TICKS):
            work(client, tick)
        client.finish()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))

    serial = EmbeddedParameterServer(num_shards=1, num_workers=2)
    tables(serial)
    clients = [serial.client(worker) for worker in range(2)]
    for tick in range(TICKS):
        for client in clients:
            work(client, tick)
    for client in clients:
        client.finish()
    for ours, theirs in zip(content(ps), content(serial), strict=True):
        assert np.array_equal(ours, theirs)
    assert content(ps)[0].any()


def test_a_server_object_travels_to_other_processes(ps: RayParameterServer) -> None:
    import ray

    def elsewhere(server: ParameterServer) -> int:
        import os

        import numpy as np

        client = server.client()
        keys = np.arange(5, dtype=np.uint64)
        client.wait(client.push("travel", keys, np.ones((5, 1), np.float32)))
        server.close()  # ends nothing: it is not the creator's
        return os.getpid()

    ps.create_table(TableConfig("travel", optimizer=SGD(lr=1.0)))
    pid = ray.get(ray.remote(elsewhere).options(num_cpus=0).remote(ps), timeout=60)
    assert pid != os.getpid()
    keys = np.arange(5, dtype=np.uint64)
    same = pickle.loads(pickle.dumps(ps))
    values = same.client().pull("travel", keys).wait()
    assert values is not None
    assert values.tolist() == [[-1.0]] * 5
    same.close()
    assert ps.status()["tables"]["travel"] == 5


def test_groups_are_found_by_name(ps: RayParameterServer) -> None:
    assert "group" in list_groups()
    assert RayParameterServer.connect("group").config == ps.config
    with pytest.raises(
        ParameterServerError, match="no parameter server group 'grupo' .* did you mean 'group'"
    ):
        RayParameterServer.connect("grupo")
    with pytest.raises(ParameterServerError, match="'group' exists already"):
        RayParameterServer.create(1, name="group")
    assert "group" in list_groups()  # the failed creation closed nothing of it
    assert ps.status()["num_shards"] == 2


def test_what_two_shards_saved_loads_on_one(ps: RayParameterServer, tmp_path: Path) -> None:
    tables(ps)
    ps.client().push("wide", KEYS, np.ones((len(KEYS), 1), np.float32)).wait()
    ps.save(str(tmp_path / "two"))
    with RayParameterServer.create(1, name="one") as other:
        other.load(str(tmp_path / "two"))
        for ours, theirs in zip(content(ps), content(other), strict=True):
            assert np.array_equal(ours, theirs)


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def test_waiting_ends_with_an_error_that_names_knob_and_workers_and_closing_ends_all(
    ray_session: None,
) -> None:
    ps = RayParameterServer.create(2, 2, 0, "short", wait_timeout_s=0.3)
    ps.create_table(TableConfig("t", optimizer=SGD()))
    pids = [shard["pid"] for shard in ps.status()["shards"]]
    worker = ps.client(0)
    worker.tick()
    with pytest.raises(
        ParameterServerError,
        match=r"'short', shard \d.*wait_timeout_s = 0.3 s.*worker 1 \(at tick 0\).*staleness = 0",
    ):
        worker.pull("t", KEYS).wait()
    assert all(map(running, pids))
    ps.close()
    ps.close()
    assert not any(map(running, pids))
    assert "short" not in list_groups()
    with pytest.raises(ParameterServerError, match="'short' is closed"):
        worker.tick()


def test_a_dead_shard_gives_an_error_that_names_it(ray_session: None) -> None:
    ps = RayParameterServer.create(2, name="dying")
    ps.create_table(TableConfig("t", optimizer=SGD()))
    client = ps.client()
    client.pull("t", KEYS).wait()
    os.kill(ps.status()["shards"][1]["pid"], signal.SIGKILL)
    with pytest.raises(ParameterServerError, match="'dying', shard 1 is gone.*checkpoint"):
        client.push("t", KEYS, np.ones((len(KEYS), 1), np.float32)).wait()
    # A push that nobody waits for is not lost silently either.
    client.push("t", KEYS, np.ones((len(KEYS), 1), np.float32))
    with pytest.raises(ParameterServerError, match="shard 1 is gone"):
        client.finish()
    ps.close()
    assert "dying" not in list_groups()


def test_a_pull_that_waits_lets_pushes_and_ticks_go_on(ps: RayParameterServer) -> None:
    ps.create_table(TableConfig("slow", optimizer=SGD(lr=1.0)))
    first, second = ps.client(0), ps.client(1)
    first.tick()
    held = first.pull("slow", KEYS)
    start = time.monotonic()
    for _ in range(3):
        second.push("slow", KEYS, np.ones((len(KEYS), 1), np.float32)).wait()
    second.tick()
    values = held.wait()
    assert values is not None
    assert np.array_equal(values, np.full((len(KEYS), 1), -3.0))
    assert time.monotonic() - start < ps.config.wait_timeout_s
    first.finish()
    second.finish()


def test_a_missing_module_is_named(ray_session: None) -> None:
    with pytest.raises(ConfigError, match="module 'my_functionz' cannot be imported"):
        RayParameterServer.create(1, name="other", function_modules=("my_functionz",))
    with pytest.raises(ConfigError, match="module 'my_functionz' cannot be imported"):
        EmbeddedParameterServer(function_modules=("my_functionz",))
    assert "other" not in list_groups()
