"""Buckets move while training goes on, and nothing of it shows in the numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.ps import training
from tests.ps.conftest import start
from weiml.errors import ConfigError
from weiml.ps import (
    SGD,
    Client,
    EmbeddedParameterServer,
    GroupConfig,
    Partition,
    TableConfig,
)
from weiml.ps.shard.shard import Shard
from weiml.ps.shard.transfer import Held, ShardRows

TICKS = 12
SIZES = [3, 1, 4, 2]


def test_embedded_shards_come_and_go_between_steps_without_a_bit_changed() -> None:
    ps = EmbeddedParameterServer(num_shards=2, num_workers=2)
    training.create(ps)
    clients = [ps.client(worker) for worker in range(2)]
    for tick in range(TICKS):
        for client in clients:
            training.step(client, tick)
            # In the middle of a tick: what the first worker pushed is held, and moves along.
            if tick < len(SIZES):
                ps.rescale(SIZES[tick])
                assert ps.status()["num_shards"] == SIZES[tick]
    for client in clients:
        client.finish()
    training.assert_equal(training.content(ps), training.serial(2, TICKS))


def test_ray_shards_come_and_go_under_two_workers_without_a_bit_changed(ray_session: None) -> None:
    from weiml.ps import RayParameterServer

    ticks = 60
    with (
        RayParameterServer.create(2, 2, 0, "moving", replicas=1) as ps,
        ThreadPoolExecutor(2) as pool,
    ):
        training.create(ps)

        def run(worker: int) -> Client:
            client = ps.client(worker)
            for tick in range(ticks):
                training.step(client, tick)
            client.finish()
            return client

        running = [pool.submit(run, worker) for worker in range(2)]
        for size in SIZES[:3]:
            ps.rescale(size)
        clients = [future.result() for future in running]
        assert ps.status()["num_shards"] == SIZES[2]
        training.assert_equal(training.content(ps), training.serial(2, ticks))
        assert sum(client.counts["moved"] for client in clients) >= 0


@pytest.mark.parametrize("transport", ["embedded", "ray"])
def test_asynchronous_pushes_are_neither_lost_nor_doubled_by_a_move(
    transport: str, request: pytest.FixtureRequest
) -> None:
    if transport == "ray":
        request.getfixturevalue("ray_session")
    keys = np.arange(1000, dtype=np.uint64)
    rounds = 200
    with start(transport, 2, 1, None) as ps, ThreadPoolExecutor(1) as pool:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client, observer = ps.client(0), ps.client()

        def push() -> None:
            for _ in range(rounds):
                for one in (client, observer):
                    one.push("t", keys, np.ones((1000, 1), np.float32))

        if transport == "ray":
            pushing = pool.submit(push)
            ps.rescale(3)
            ps.rescale(1)
            pushing.result()
        else:
            push()
            ps.rescale(3)
            push()
        client.flush()
        observer.flush()
        times = 2 * rounds if transport == "ray" else 4 * rounds
        assert (np.asarray(ps.client().pull("t", keys).wait()) == -times).all()
        client.finish()


def test_a_refused_write_is_not_taken_for_an_acknowledged_one_when_its_shard_dies(
    ray_session: None,
) -> None:
    import os
    import signal

    from weiml.ps import RayParameterServer

    keys = np.arange(1000, dtype=np.uint64)
    with RayParameterServer.create(2, 1, None, "refused", replicas=2) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD(lr=1.0)))
        client = ps.client()
        client.wait(client.push("t", keys, np.ones((1000, 1), np.float32)))
        other = RayParameterServer.connect("refused")
        other.rescale(3)  # this client has not heard of it: all that it sends now is refused
        for _ in range(2):
            client.push("t", keys, np.ones((1000, 1), np.float32))
        first = client._writes[0][1]  # type: ignore[attr-defined]
        part = next(p for p in client._conversation.under_way.values() if p.shard == 1)  # type: ignore[attr-defined]
        client._conversation.answer(part)  # type: ignore[attr-defined]
        os.kill(other.status()["shards"][1]["pid"], signal.SIGKILL)
        first.wait()
        client.flush()
        assert (np.asarray(other.client().pull("t", keys).wait()) == -3).all()
        assert client.counts["lost_writes"] == 0


def test_a_rescaled_map_moves_as_few_buckets_as_can_be() -> None:
    before = Partition(4)
    more = before.rescaled(5)
    assert more.version == 1
    assert (more.shards != before.shards).sum() <= -(-1024 // 5) + 1
    sizes = np.bincount(more.shards)
    assert sizes.max() - sizes.min() <= 1
    fewer = more.rescaled(2)
    assert set(fewer.shards) == {0, 1}
    stayed = more.shards < 2
    assert (fewer.shards[stayed] == more.shards[stayed]).all()
    moves = before.moves_to(more)
    assert {target for _, target, _ in moves} == {4}
    assert sum(len(buckets) for _, _, buckets in moves) == (more.shards != before.shards).sum()
    with pytest.raises(ConfigError, match="num_shards"):
        before.rescaled(0)


def test_a_shard_told_the_partition_that_it_has_stays_frozen_until_it_thaws() -> None:
    # A coordinator that was started again says so before it ends the move that had not begun:
    # a request that acted between the two would act on what has come for that move.
    shard = Shard(GroupConfig(num_shards=2, num_workers=1), 0)
    shard.create_vector("v", 4, np.zeros(2, np.float32))
    other = ShardRows(
        vectors={"v": 4},
        buckets=shard.partition.buckets_at(1),
        held=((0, 0, Held("push_vector", "v", np.array([2, 3]), np.ones(2, np.float32))),),
    )
    shard.join(0, "client")
    shard.set_barrier(1)
    shard.freeze()
    shard.import_rows(other)
    shard.switch(Partition(2))
    assert (shard.frozen, shard.status()["held"]) == (True, 1)
    shard.thaw()
    assert (shard.frozen, shard.status()["held"]) == (False, 0)
