"""Random schedules of a whole group in a simulated cluster: what was acknowledged is never lost.

``WEIML_FAULT_SEED=1000 WEIML_FAULT_RUNS=500 pytest -m "" tests/faults/test_simulated.py`` tries
others; a failing one is named by its seed, and is the same each time.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.chaos import Chaos
from tests.faults.simulation import World, simulated
from tests.ps import training
from weiml.errors import ParameterServerError
from weiml.ps import SGD, Client, Cut, EmbeddedParameterServer, RayParameterServer, TableConfig

SEED = int(os.environ.get("WEIML_FAULT_SEED", "0"))
RUNS = int(os.environ.get("WEIML_FAULT_RUNS", "4"))
SEEDS = range(SEED, SEED + RUNS)
MORE_SEEDS = range(SEED + RUNS, SEED + 25 * RUNS)
TICKS = 15
KEYS = np.arange(200, dtype=np.uint64) * 977
ONES = np.ones((len(KEYS), 1), np.float32)
EXACT = ("primary", "primary", "standby", "coordinator", "rescale", "rescale", "checkpoint")


def seeds(test: Any) -> Any:
    few = [pytest.param(seed) for seed in SEEDS]
    more = [pytest.param(seed, marks=pytest.mark.slow) for seed in MORE_SEEDS]
    return pytest.mark.parametrize("seed", few + more)(test)


@pytest.fixture(scope="module")
def serial() -> list[np.ndarray]:
    return training.serial(2, TICKS)


@pytest.fixture
def world(seed: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    with simulated(seed, monkeypatch) as world:
        yield world


def start(world: World, tmp_path: Path, staleness: int | None, **fields: Any) -> RayParameterServer:
    defaults: dict[str, Any] = {
        "replicas": 2, "lease_s": None, "num_buckets": 64, "checkpoint_root": str(tmp_path),
    }  # fmt: skip
    return RayParameterServer.create(2, 2, staleness, "sim", **(defaults | fields))


def value(ps: RayParameterServer) -> np.ndarray:
    return -np.asarray(ps.client().pull("t", KEYS).wait())[:, 0]


class Follower:
    """A copy of a group's weights that is kept by deltas alone."""

    def __init__(self, ps: RayParameterServer) -> None:
        self._client = ps.client()
        self._cut = Cut.zero()
        self.tables: dict[str, dict[int, bytes]] = {}
        self.vectors: dict[str, np.ndarray] = {}

    def catch_up(self) -> None:
        delta = self._client.delta(self._cut)
        if delta.full:
            self.tables = {}
        for name, (keys, weights) in delta.tables.items():
            rows = self.tables.setdefault(name, {})
            rows |= zip(keys.tolist(), map(bytes, weights), strict=True)
            for key in delta.deleted.get(name, np.empty(0)).tolist():
                rows.pop(key, None)
        self.vectors |= delta.vectors
        self._cut = delta.cut


@seeds
def test_bsp_is_bit_equal_to_serial_training_whatever_is_killed_and_moved(
    seed: int, world: World, tmp_path: Path, serial: list[np.ndarray]
) -> None:
    with start(world, tmp_path, 0) as ps:
        training.create(ps)
        clients = [ps.client(worker) for worker in range(2)]
        follower = Follower(ps)
        ended: list[bool] = []

        def train(client: Client) -> None:
            for tick in range(TICKS):
                training.step(client, tick)
            client.finish()

        def follow() -> None:
            while not ended:
                follower.catch_up()
                world.sleep(0.1)

        chaos = Chaos(world, ps, EXACT, (1, 2, 3))
        following = world.spawn(follow)
        world.join([world.spawn(partial(train, c)) for c in clients])
        chaos.stop()
        ended.append(True)
        world.join([following])
        assert chaos.errors == []
        training.assert_equal(training.content(ps), serial)
        assert sum(client.counts["lost_writes"] for client in clients) == 0

        # The group is as able as before, and all its parts agree.
        ps.rescale(3 if ps.status()["num_shards"] < 3 else 1)
        with EmbeddedParameterServer(2, num_buckets=64) as other:
            other.load(ps.checkpoint())
            training.assert_equal(training.content(other), serial)
        follower.catch_up()
        weights = np.asarray(ps.client().pull("deep", training.KEYS).wait())
        expected = dict(zip(training.KEYS.tolist(), map(bytes, weights), strict=True))
        assert follower.tables["deep"] == {k: expected[k] for k in follower.tables["deep"]}
        assert len(follower.tables["deep"]) == ps.status()["tables"]["deep"]
        assert np.array_equal(follower.vectors["dense"], serial[3])
    assert not world.names, "something is left running"


def test_a_seed_gives_the_same_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces: list[tuple[int, list[Any]]] = []
    for seed in (7, 7, 8):
        with simulated(seed, monkeypatch) as world:
            with start(world, tmp_path / str(len(traces)), 0) as ps:
                training.create(ps)
                chaos = Chaos(world, ps, EXACT, (1, 2, 3))

                def train(client: Client) -> None:
                    for tick in range(TICKS):
                        training.step(client, tick)
                    client.finish()

                world.join([world.spawn(partial(train, ps.client(w))) for w in range(2)])
                chaos.stop()
            traces.append((world.trace, chaos.struck))
    assert traces[0] == traces[1] != traces[2]


def test_an_idle_group_takes_no_checkpoint_of_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        simulated(0, monkeypatch) as world,
        start(world, tmp_path / "root", None, checkpoint_interval_s=1.0) as ps,
    ):
        training.create(ps)
        taken = []
        for pushes in (0, 0, 1):
            for _ in range(pushes):
                ps.client().push("deep", training.KEYS, np.ones((60, 3), np.float32))
            world.sleep(20.0)
            taken.append(len(list((tmp_path / "root").glob("2*"))))
        assert taken == [taken[0], taken[0], taken[0] + 1]


def test_a_write_that_waits_for_long_holds_up_nothing_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        simulated(0, monkeypatch) as world,
        start(world, tmp_path, None, wait_timeout_s=5.0, call_timeout_s=60.0) as ps,
    ):
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client = ps.client()
        ps._transport.ask("freeze")
        client.push("t", KEYS, ONES)
        world.sleep(20.0)
        ps._transport.ask("thaw")
        client.push("t", KEYS, ONES)
        client.flush()
        assert (value(ps) == 2).all()


@seeds
def test_asp_has_every_acknowledged_push_and_none_twice(
    seed: int, world: World, tmp_path: Path
) -> None:
    with start(world, tmp_path, None) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        chaos = Chaos(world, ps, EXACT, (1, 2, 3, 5))

        def push(worker: int | None, pushes: int) -> Client:
            client = ps.client(worker)
            for n in range(pushes):
                ticket = client.push("t", KEYS[n % 3 :: 3], ONES[n % 3 :: 3])
                if n % 4 == 0:
                    client.wait(ticket)
                world.sleep(0.02)
            client.flush()
            client.finish()
            return client

        jobs = [(0, 60), (1, 30), (None, 60), (None, 30)]
        running = [world.spawn(partial(push, *job)) for job in jobs]
        clients = world.join(running)
        chaos.stop()
        assert chaos.errors == []
        assert (value(ps) == sum(pushes for _, pushes in jobs) / 3).all()
        assert sum(client.counts["lost_writes"] for client in clients) == 0
        assert ps.status()["rows"] == len(KEYS)
    assert not world.names


@seeds
def test_ssp_keeps_its_bound_when_shards_are_killed_and_moved(
    seed: int, world: World, tmp_path: Path
) -> None:
    bound = 2
    with start(world, tmp_path, bound) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        chaos = Chaos(world, ps, EXACT, (1, 2, 3))
        clients = [ps.client(worker) for worker in range(2)]

        def train(client: Client) -> None:
            for tick in range(20):
                seen = -np.asarray(client.pull("t", KEYS).wait())[:, 0]
                assert (seen >= tick + max(tick - bound, 0)).all(), "it read too early"
                client.push("t", KEYS, ONES)
                client.tick()
                world.sleep(0.05 if client.worker else 0.01)
            client.finish()

        world.join([world.spawn(partial(train, c)) for c in clients])
        chaos.stop()
        assert chaos.errors == []
        assert (value(ps) == 40).all()
    assert not world.names


@seeds
def test_workers_that_start_again_in_the_middle_of_a_step_leave_no_trace_of_it(
    seed: int, world: World, tmp_path: Path, serial: list[np.ndarray]
) -> None:
    with start(world, tmp_path, 0) as ps:
        training.create(ps)
        chaos = Chaos(world, ps, EXACT, (1, 2, 3))

        def train(worker: int) -> None:
            client = ps.client(worker)
            for tick in range(TICKS):
                if world.random.random() < 0.3:  # it dies, and what it did of the step with it
                    client.flush()  # its last tick was acknowledged
                    client.push("deep", training.KEYS, np.ones((60, 3), np.float32))
                    client = ps.client(worker)
                training.step(client, tick)
                world.sleep(0.01)
            client.finish()

        world.join([world.spawn(partial(train, w)) for w in range(2)])
        chaos.stop()
        assert chaos.errors == []
        training.assert_equal(training.content(ps), serial)
    assert not world.names


@seeds
def test_without_stand_bys_what_is_missing_is_what_is_reported(
    seed: int, world: World, tmp_path: Path
) -> None:
    with start(world, tmp_path, None, replicas=1) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        ps.checkpoint()
        chaos = Chaos(world, ps, ("any", "checkpoint", "checkpoint", "coordinator"), ())

        def push() -> Client:
            client = ps.client()
            for _ in range(60):
                client.push("t", KEYS, ONES)
                world.sleep(0.02)
            client.flush()
            return client

        clients = world.join([world.spawn(push) for _ in range(2)])
        chaos.stop()
        # A shard lost when all was said and done: no client had anything to say to it since.
        for client in clients:
            client.pull("t", KEYS).wait()
        missing = 2 * 60 - value(ps)
        shards = ps._transport.partition.shards_of(KEYS)
        lost = [missing[shards == shard] for shard in range(2)]
        assert all(len(set(part.tolist())) == 1 for part in lost), "pushes are lost whole"
        assert sum(part[0] for part in lost) == sum(c.counts["lost_writes"] for c in clients)
        assert (missing >= 0).all()
        for error in chaos.errors:  # a checkpoint that met a kill may fail, and says why
            assert isinstance(error, ParameterServerError)
    assert not world.names
