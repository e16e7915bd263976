"""The hub: what late, lost, new and foreign replicas get, and who is waited for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps import Cut, Delta
from weiml.serving.params import ParameterHub
from weiml.serving.updates import Events, Follower, Offer


class Target:
    def __init__(self) -> None:
        self.rows: dict[int, float] = {}
        self.events: list[int] = []

    def apply_delta(self, model: str, delta: Delta) -> None:
        keys, weights = delta.tables["wide"]
        self.rows.update(zip(keys.tolist(), weights[:, 0].tolist(), strict=True))

    def observe(self, events: Events) -> None:
        self.events.extend(events["item_id"])


def delta(keys: list[int], value: float) -> Delta:
    rows = (np.array(keys, np.uint64), np.full((len(keys), 1), value, np.float32))
    return Delta(since=Cut.zero(), cut=Cut((1,)), tables={"wide": rows}, vectors={})


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_replicas_of_any_age_end_in_the_same_state() -> None:
    """Fuzz: replicas join, lag and poll at random against a log of 4; all converge."""

    async def scenario(seed: int) -> None:
        rng = random.Random(seed)
        hub = ParameterHub(["m"], log_size=4)
        truth = Target()
        followers: dict[str, Follower] = {}
        targets: dict[str, Target] = {}

        async def poll(name: str) -> None:
            update = await hub.since(name, followers[name].sequence, timeout_s=0)
            if update is not None:
                assert followers[name].offer(update) is Offer.APPLIED

        for number in range(1, 40):
            keys = rng.sample(range(8), 3)
            events = {"item_id": [number]} if rng.random() < 0.4 else None
            assert await hub.publish({"m": delta(keys, number)}, events) == number
            truth.apply_delta("m", delta(keys, number))
            truth.observe(events or {"item_id": []})
            if rng.random() < 0.2:
                name = f"r{number}"
                targets[name] = Target()
                followers[name] = Follower(targets[name])
            for name in followers:
                if rng.random() < 0.3:
                    await poll(name)
        for name, target in targets.items():
            await poll(name)
            assert (target.rows, target.events) == (truth.rows, truth.events)
            assert followers[name].sequence == 39

    for seed in range(20):
        run(scenario(seed))


def test_a_waiting_replica_is_woken_by_a_publish() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["m"])
        waiting = asyncio.create_task(hub.since("r", 0, timeout_s=20))
        await asyncio.sleep(0)
        await hub.publish({"m": delta([1], 1.0)})
        update = await waiting
        assert update is not None
        assert (update.first, update.last) == (1, 1)
        assert await hub.since("r", 1, timeout_s=0) is None

    run(scenario())


def test_wait_for_waits_for_all_live_replicas() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["m"], silence_s=0.2)
        assert not (await hub.wait_for(0, timeout_s=0))["reached"]  # no replica at all
        for name in ("a", "b", "dead"):
            await hub.since(name, 0, timeout_s=0, pid=7)
        await hub.publish({"m": delta([1], 1.0)})
        status = await hub.wait_for(1, timeout_s=0)
        assert not status["reached"]
        assert status["replicas"]["a"]["pid"] == 7

        async def follow(name: str) -> None:
            while True:
                update = await hub.since(name, 1, timeout_s=0.05)
                assert update is None

        followers = [asyncio.create_task(follow(name)) for name in ("a", "b")]
        # "dead" does not ask again: after the silence limit nobody waits for it.
        status = {"reached": False}
        while not status["reached"]:
            status = await hub.wait_for(1, timeout_s=0.1)
        assert set(status["replicas"]) == {"a", "b"}
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)

    run(scenario())


def test_a_replica_that_waits_for_news_is_alive_however_long() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["lr"], silence_s=0.0)
        question = asyncio.create_task(hub.since("a", 0, timeout_s=30.0))
        for _ in range(3):
            await asyncio.sleep(0.01)
            assert set((await hub.status())["replicas"]) == {"a"}
        question.cancel()
        await asyncio.gather(question, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert (await hub.status())["replicas"] == {}

    asyncio.run(scenario())


def test_wait_for_is_woken_by_the_acknowledgement() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["m"])
        await hub.since("a", 0, timeout_s=0)
        await hub.publish({"m": delta([1], 1.0)})
        waiting = asyncio.create_task(hub.wait_for(1, timeout_s=20))
        await asyncio.sleep(0)
        await hub.since("a", 1, timeout_s=0)
        status = await waiting
        assert status["reached"]
        assert status["seconds"] < 20
        await hub.leave("a")
        assert (await hub.status())["replicas"] == {}

    run(scenario())


def test_a_replica_of_an_earlier_hub_gets_everything_at_once() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["m"], log_size=1)
        empty = await hub.since("r", 50, epoch="old", timeout_s=20)
        assert empty is not None
        assert (empty.first, empty.last) == (1, 0)
        for number in range(3):
            await hub.publish({"m": delta([number], 1.0)})
        update = await hub.since("r", 3, epoch="old", timeout_s=20)
        assert update is not None
        assert (update.first, update.last) == (1, 3)
        assert len(update.deltas["m"].tables["wide"][0]) == 3
        assert (await hub.status())["replicas"]["r"]["sequence"] == -1
        assert not (await hub.wait_for(0, timeout_s=0))["reached"]

    run(scenario())


def test_a_replica_that_lost_count_gets_everything() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["m"])
        for number in range(3):
            await hub.publish({"m": delta([number], 1.0)})
        for sequence in (-1, 99):
            update = await hub.since("r", sequence, timeout_s=0)
            assert update is not None
            assert (update.first, update.last) == (1, 3)

    run(scenario())


def test_wrong_publishes_are_refused() -> None:
    async def scenario() -> None:
        hub = ParameterHub(["feed"])
        with pytest.raises(ParameterServerError, match="no model 'fed'; did you mean 'feed'"):
            await hub.publish({"fed": delta([1], 1.0)})
        with pytest.raises(ParameterServerError, match="got neither"):
            await hub.publish()
        assert (await hub.status())["sequence"] == 0

    run(scenario())
    with pytest.raises(ConfigError, match="log_size must be at least 1, got 0"):
        ParameterHub(["feed"], log_size=0)
