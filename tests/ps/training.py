"""A small training whose pushes depend on what was pulled: every order shows in the bits."""

from __future__ import annotations

import numpy as np

from weiml.ps import FTRL, Adagrad, Client, EmbeddedParameterServer, ParameterServer, TableConfig

KEYS = np.arange(60, dtype=np.uint64) * 977
RULE = FTRL(alpha=0.3, l1=0.01)
DENSE_ROWS = 50


def create(ps: ParameterServer) -> None:
    """Create a table pushed by differences, one by gradients, a dense one and a vector."""
    ps.create_table(TableConfig("wide", optimizer=RULE))
    ps.create_table(TableConfig("deep", dim=3, optimizer=Adagrad(), init_scale=0.1))
    ps.create_table(TableConfig("rows", dim=2, optimizer=Adagrad(), rows=DENSE_ROWS))
    ps.create_vector("dense", np.zeros(10, np.float32))


def step(client: Client, tick: int) -> None:
    """Take one step of a worker and tick."""
    rng = np.random.default_rng([tick, client.worker or 0])
    keys = np.unique(rng.choice(KEYS, 30))
    places = np.unique(rng.integers(0, DENSE_ROWS, 12)).astype(np.uint64)
    tickets = [
        client.pull("wide", keys, "state"),
        client.pull("deep", keys),
        client.pull("rows", places),
        client.pull_vector("dense"),
    ]
    state, rows, dense_rows, vector = (np.asarray(ticket.wait()) for ticket in tickets)
    noise = rng.normal(size=(len(keys), 1)).astype(np.float32)
    grads = np.tanh(RULE.weights(state) + noise).astype(np.float32)
    client.push("wide", keys, RULE.update(state, grads) - state, "differences")
    client.push("deep", keys, (rows * noise + grads).astype(np.float32))
    client.push("rows", places, np.cos(dense_rows).astype(np.float32))
    client.push_vector("dense", (np.cos(vector) * np.float32(0.1)).astype(np.float32))
    client.tick()


def content(ps: ParameterServer) -> list[np.ndarray]:
    """Return all that `step` trains, to be compared bit by bit."""
    client = ps.client()
    tickets = [
        client.pull("wide", KEYS, "state"),
        client.pull("deep", KEYS, "state"),
        client.pull("rows", np.arange(DENSE_ROWS, dtype=np.uint64), "state"),
        client.pull_vector("dense"),
    ]
    return [np.asarray(ticket.wait()) for ticket in tickets]


def serial(num_workers: int, ticks: int) -> list[np.ndarray]:
    """Return what `ticks` steps of each worker give, one after the other in one process."""
    with EmbeddedParameterServer(num_shards=1, num_workers=num_workers) as ps:
        create(ps)
        clients = [ps.client(worker) for worker in range(num_workers)]
        for tick in range(ticks):
            for client in clients:
                step(client, tick)
        for client in clients:
            client.finish()
        return content(ps)


def assert_equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Assert that two contents are equal to the bit, and not trivially."""
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a, b)
        assert a.any()
