"""Recorded histories: what each read saw, held against the bound on staleness."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ParameterServerError
from weiml.ps import SGD, Client, EmbeddedParameterServer, ParameterServer, TableConfig
from weiml.ps.partition import Partition
from weiml.ps.shard.shard import Moved, Shard
from weiml.ps.shard.transfer import Stamp

WORKERS = 3


@dataclass(frozen=True)
class Read:
    """One pull: at which tick, and how many steps of each worker it showed."""

    worker: int
    tick: int
    seen: tuple[int, ...]


def counters(ps: ParameterServer) -> np.ndarray:
    """Create a table in which worker w counts its steps at key w·977; return the keys."""
    ps.create_table(TableConfig("steps", optimizer=SGD(lr=1.0)))
    return np.arange(WORKERS, dtype=np.uint64) * 977


def read(client: Client, keys: np.ndarray, tick: int) -> Read:
    values = np.asarray(client.pull("steps", keys).wait())
    assert client.worker is not None
    return Read(client.worker, tick, tuple(int(-v) for v in values[:, 0]))


def count_step(client: Client, keys: np.ndarray) -> None:
    assert client.worker is not None
    client.push("steps", keys[client.worker : client.worker + 1], np.ones((1, 1), np.float32))
    client.tick()


def check(history: list[Read], staleness: int | None) -> None:
    """Assert that a read at tick t showed at least t - s steps of every worker, and its own."""
    for one in history:
        for worker, seen in enumerate(one.seen):
            if staleness is not None:
                assert seen >= one.tick - staleness, (one, worker)
            if staleness == 0:
                assert seen == one.tick, (one, worker)
            if worker == one.worker:
                assert seen == one.tick, one


@given(
    staleness=st.sampled_from([0, 1, 3, None]),
    shards=st.integers(1, 3),
    turns=st.lists(st.integers(0, WORKERS - 1), max_size=60),
)
@settings(max_examples=60)
def test_whatever_the_order_of_turns_no_read_is_staler_than_the_bound(
    staleness: int | None, shards: int, turns: list[int]
) -> None:
    ps = EmbeddedParameterServer(shards, WORKERS, staleness)
    keys = counters(ps)
    clients = [ps.client(worker) for worker in range(WORKERS)]
    ticks = [0] * WORKERS
    history = []
    for worker in turns:
        ahead = staleness is not None and ticks[worker] - min(ticks) > staleness
        if ahead:
            with pytest.raises(ParameterServerError, match="would have to wait"):
                read(clients[worker], keys, ticks[worker])
            continue
        history.append(read(clients[worker], keys, ticks[worker]))
        count_step(clients[worker], keys)
        ticks[worker] += 1
    check(history, staleness)


@pytest.mark.parametrize("staleness", [0, 2, None])
def test_workers_of_different_speed_never_read_staler_than_the_bound(
    ray_session: None, staleness: int | None
) -> None:
    from weiml.ps import RayParameterServer

    with (
        RayParameterServer.create(2, WORKERS, staleness, f"history-{staleness}") as ps,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        keys = counters(ps)

        def run(worker: int) -> list[Read]:
            rng = np.random.default_rng(worker)
            client = ps.client(worker)
            history = []
            for tick in range(25):
                history.append(read(client, keys, tick))
                time.sleep(rng.exponential(0.002 * (1 + worker)))
                count_step(client, keys)
            client.finish()
            return history

        histories = list(pool.map(run, range(WORKERS)))
        check([one for history in histories for one in history], staleness)


def deliver(shard: Shard, requests: list[tuple[str, Stamp, tuple[object, ...]]]) -> None:
    """Give requests to a shard in this order; those held up are tried again after each other."""
    waiting = list(requests)
    while waiting:
        free = [r for r in waiting if shard.blocked(r[0], r[1]) is None]
        assert free, "requests wait for each other"
        verb, stamp, arguments = free[0]
        assert not isinstance(shard.serve(verb, stamp, *arguments), Moved)
        waiting.remove(free[0])


@given(
    order=st.permutations(range(12)),
    twice=st.lists(st.integers(0, 11), max_size=6),
    staleness=st.sampled_from([0, 2, None]),
)
@settings(max_examples=60)
def test_requests_delayed_reordered_and_doubled_give_the_same_bits(
    order: list[int], twice: list[int], staleness: int | None
) -> None:
    from weiml.ps import Adagrad, GroupConfig

    config = GroupConfig(num_workers=2, staleness=staleness)
    keys = np.arange(4, dtype=np.uint64)

    def made() -> list[tuple[str, Stamp, tuple[object, ...]]]:
        requests: list[tuple[str, Stamp, tuple[object, ...]]] = []
        for worker in range(2):
            for tick in range(2):
                for n in range(2):
                    values = np.full((4, 1), 1 + worker + 3 * tick + n, np.float32)
                    stamp = Stamp(f"c{worker}", 3 * tick + n + 1, worker, tick)
                    requests.append(("push", stamp, ("t", keys, values, "gradients")))
                requests.append(("tick", Stamp(f"c{worker}", 3 * tick + 3, worker, tick), ()))
        return requests

    def run(requests: list[tuple[str, Stamp, tuple[object, ...]]]) -> np.ndarray:
        shard = Shard(config, 0, Partition(1))
        shard.create_table(TableConfig("t", optimizer=Adagrad(lr=1.0)))
        for worker in range(2):
            shard.join(worker, f"c{worker}")
        deliver(shard, requests)
        assert shard.counts["pushes"] == 8
        return np.asarray(shard.tables["t"].pull_state(keys))

    mixed = [made()[i] for i in order]
    mixed += [made()[i] for i in twice]
    got, expected = run(mixed), run(made())
    if staleness == 0:  # otherwise the order among workers is free, and shows in the last bits
        assert np.array_equal(got, expected)
    else:
        np.testing.assert_allclose(got[:, 1], expected[:, 1], rtol=1e-6)
