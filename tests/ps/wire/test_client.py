"""The wire between clients and shards: nothing lost, own writes read, keys sent once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from weiml.ps import ASGD, FTRL, SGD, AdmissionConfig, Client, EmbeddedParameterServer, TableConfig
from weiml.ps.wire import KeyReceiver, WireConfig

WIRES: dict[str, dict[str, Any]] = {
    "exact": {},
    "bfloat16": {"push": "bfloat16"},
    "int8": {"push": "int8"},
    "packed keys": {"keys": "packed", "key_cache_mib": 1.0},
    "a tenth of the rows": {"push_fraction": 0.1},
    "everything": {
        "push": "int8",
        "push_fraction": 0.3,
        "keys": "packed",
        "key_cache_mib": 1.0,
        "dictionary_keys": 300,
    },
}
SUMS = TableConfig("sums", dim=2, optimizer=FTRL())
STEPS = TableConfig("steps", dim=6, optimizer=SGD(lr=1.0))


@pytest.fixture(params=list(WIRES.values()), ids=list(WIRES))
def wire(request: pytest.FixtureRequest) -> WireConfig:
    return WireConfig(**request.param)


@pytest.fixture(params=[1, 3], ids=["1 shard", "3 shards"])
def num_shards(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def group(num_shards: int, staleness: int | None) -> EmbeddedParameterServer:
    server = EmbeddedParameterServer(num_shards, 1, staleness)
    server.create_table(SUMS)
    server.create_table(STEPS)
    return server


def batches(width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(12):
        keys = rng.choice(200, 60, replace=False).astype(np.uint64) * np.uint64(2**64 // 199)
        rows = rng.normal(size=(60, width)).astype(np.float32)
        if width == SUMS.width:  # its second half are sums of squares
            rows[:, width // 2 :] = abs(rows[:, width // 2 :])
        yield keys, rows


def all_rows(client: Client, table: str, what: Any) -> np.ndarray:
    keys = np.arange(200, dtype=np.uint64) * np.uint64(2**64 // 199)
    rows = client.wait(client.pull(table, keys, what))
    assert isinstance(rows, np.ndarray)
    return rows


def expected(width: int) -> np.ndarray:
    """The sums of all batches by key, float64 (200, width)."""
    out = np.zeros((200, width))
    for keys, rows in batches(width):
        np.add.at(out, (keys // np.uint64(2**64 // 199)).astype(np.int64), rows)
    return out


def left(wire: WireConfig) -> float:
    """What may be missing of a number on the shards after a flush: a 128th of a rounding."""
    return 1e-5 if wire.push == "float32" else 1e-2


def test_after_a_flush_the_shards_have_all_that_was_pushed(
    wire: WireConfig, num_shards: int
) -> None:
    with group(num_shards, None) as server:
        client = server.client(0, wire=wire)
        for keys, rows in batches(4):
            client.push("sums", keys, rows, what="differences")
        for keys, rows in batches(6):
            client.push("steps", keys, rows)
        client.flush()
        observer = server.client()
        assert np.allclose(all_rows(observer, "sums", "state"), expected(4), atol=left(wire))
        assert np.allclose(all_rows(observer, "steps", "weights"), -expected(6), atol=left(wire))


def test_a_client_that_finishes_leaves_nothing_behind(wire: WireConfig) -> None:
    with group(2, None) as server:
        client = server.client(0, wire=wire)
        for keys, rows in batches(4):
            client.push("sums", keys, rows, what="differences")
            client.tick()
        client.finish()
        shown = all_rows(server.client(), "sums", "state")
        assert np.allclose(shown, expected(4), atol=left(wire))


def test_a_client_reads_its_own_differences_whole(wire: WireConfig, num_shards: int) -> None:
    with group(num_shards, None) as server:
        client = server.client(0, wire=wire)
        for keys, rows in batches(4):
            before = client.wait(client.pull("sums", keys, "state"))
            client.push("sums", keys, rows, what="differences")
            after = client.wait(client.pull("sums", keys, "state"))
            assert np.allclose(after, before + rows, atol=1e-5)


def test_a_prefetch_shows_what_was_pushed_before_it(wire: WireConfig) -> None:
    with group(2, None) as server:
        client = server.client(0, wire=wire)
        pushes = batches(4)
        keys, rows = next(pushes)
        client.push("sums", keys, rows, what="differences")
        ticket = client.pull("sums", keys, "state", ahead=1)
        _, later = next(pushes)
        client.push("sums", keys, later, what="differences")
        shown = client.wait(ticket)
        # Embedded shards answer at once, so this pull misses the second push.
        assert np.allclose(shown, rows, atol=1e-5)


def test_a_prefetch_under_bsp_shows_the_tick_it_waits_for(wire: WireConfig) -> None:
    with group(2, 0) as server:
        client = server.client(0, wire=wire)
        total = np.zeros((60, 4), np.float32)
        pushes = batches(4)
        keys, _ = next(pushes)
        for _, rows in pushes:
            ticket = client.pull("sums", keys, "state", ahead=1)
            client.push("sums", keys, rows, what="differences")
            client.tick()
            total += rows
            assert np.allclose(client.wait(ticket), total, atol=1e-5)


def test_what_the_shards_hold_does_not_depend_on_how_many_there_are(wire: WireConfig) -> None:
    states = []
    for num_shards in (1, 2, 5):
        with group(num_shards, None) as server:
            client = server.client(0, wire=wire)
            for keys, rows in batches(6):
                client.push("steps", keys, rows)
            states.append(all_rows(server.client(), "steps", "weights"))
    assert all(np.array_equal(state, states[0]) for state in states)


@pytest.mark.parametrize("keys_coding", ["plain", "packed"])
@pytest.mark.parametrize("what", ["weights", "training", "state"])
def test_rows_that_do_not_exist_are_made_bit_by_bit_and_not_sent(
    what: Any, keys_coding: Any, num_shards: int
) -> None:
    table = TableConfig("noise", dim=6, optimizer=ASGD(), init_scale=0.1, seed=3)
    dense = TableConfig("dense", dim=6, optimizer=SGD(), init_scale=0.1, rows=300)
    admitted = TableConfig(
        "admitted", dim=6, optimizer=SGD(), init_scale=0.1, admission=AdmissionConfig(min_count=3)
    )
    keys = np.random.default_rng(0).permutation(300).astype(np.uint64)
    with EmbeddedParameterServer(num_shards) as server:
        exact = server.client()
        small = server.client(wire=WireConfig(omit_new=True, keys=keys_coding))
        for config in (table, dense, admitted):
            server.create_table(config)
            for part in (keys[:0], keys[::3], keys):
                exact.push(config.name, part, np.ones((len(part), 6), np.float32))
                before = small.counts["bytes_received"]
                rows = [
                    client.wait(client.pull(config.name, keys, what)) for client in (exact, small)
                ]
                assert np.array_equal(rows[0].view(np.uint32), rows[1].view(np.uint32))
                received = small.counts["bytes_received"] - before
                bits = 0 if config is dense else 300 / 8 + 8 * num_shards
                there = {"noise": len(part), "dense": 300, "admitted": 0}[config.name]
                assert received <= there * rows[0].itemsize * rows[0].shape[1] + bits


@pytest.mark.parametrize("staleness", [0, None])
def test_shards_that_lose_their_key_lists_get_them_again(staleness: int | None) -> None:
    wire = WireConfig(keys="packed", key_cache_mib=1.0)
    with group(2, staleness) as server:
        client = server.client(0, wire=wire)
        total = np.zeros((200, 4))
        for step, (keys, rows) in enumerate(batches(4)):
            ticket = client.pull("sums", keys, "state", ahead=1)
            if step % 2:
                for shard in server._transport.shards:
                    shard._key_lists = KeyReceiver()
            client.push("sums", keys, rows, what="differences")
            client.tick()
            places = (keys // np.uint64(2**64 // 199)).astype(np.int64)
            shown = total[places] + (rows if staleness == 0 else 0)
            assert np.allclose(client.wait(ticket), shown, atol=1e-5)
            np.add.at(total, places, rows)
        client.finish()
        assert np.allclose(all_rows(server.client(), "sums", "state"), total, atol=1e-5)


@pytest.mark.parametrize("pull", ["float16", "bfloat16", "float8", "int8"])
def test_pulled_rows_are_rounded_as_asked(pull: Any) -> None:
    with group(2, None) as server:
        exact = server.client(0)
        for keys, rows in batches(6):
            exact.push("steps", keys, rows)
        exact.flush()
        rounded = all_rows(server.client(wire=WireConfig(pull=pull)), "steps", "weights")
        weights = all_rows(server.client(), "steps", "weights")
        largest = np.abs(weights).max(axis=1, keepdims=True)
        assert not np.array_equal(rounded, weights)
        assert (np.abs(rounded - weights) <= largest / 8).all()
