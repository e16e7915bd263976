"""What only the embedded server does: it tells a single thread that it would wait for itself."""

from __future__ import annotations

import doctest
import pickle

import numpy as np
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import SGD, Adam, EmbeddedParameterServer, TableConfig, embedded

KEYS = np.arange(3, dtype=np.uint64)


def test_a_pull_that_would_wait_says_for_whom_and_what_to_do() -> None:
    ps = EmbeddedParameterServer(num_workers=3, staleness=0)
    ps.create_table(TableConfig("t", optimizer=SGD()))
    workers = [ps.client(worker) for worker in range(3)]
    workers[0].tick()
    workers[1].tick()
    ticket = workers[0].pull("t", KEYS)
    with pytest.raises(ParameterServerError, match=r"worker 2 \(at tick 0\).*step in turn"):
        ticket.wait()


def test_a_closed_server_says_so() -> None:
    with EmbeddedParameterServer(name="mine") as ps:
        ps.create_table(TableConfig("t", optimizer=SGD()))
        client = ps.client()
        client.pull("t", KEYS)
    ps.close()
    with pytest.raises(ParameterServerError, match="'mine' is closed"):
        client.pull("t", KEYS)


def test_copies_that_would_drift_apart_are_refused() -> None:
    ps = EmbeddedParameterServer()
    with pytest.raises(TypeError, match="use RayParameterServer to share one"):
        pickle.dumps(ps)
    with pytest.raises(TypeError, match="send the server and call its client"):
        pickle.dumps(ps.client())


def test_the_example_runs() -> None:
    assert doctest.testmod(embedded).attempted > 0
    assert doctest.testmod(embedded).failed == 0


def test_small_requests_do_not_overtake_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's steps do not commute: any other order would leave other bits."""
    tables = []
    for few in (0, 40, 10**9):  # all by threads, some, none
        monkeypatch.setattr(embedded, "_FEW_ROWS", few)
        rng = np.random.default_rng(5)
        with EmbeddedParameterServer(3) as server:
            server.create_table(TableConfig("w", dim=2, optimizer=Adam(lr=0.1)))
            worker = server.client(0)
            pulls = []
            for _ in range(60):
                keys = rng.choice(400, int(rng.choice([5, 300])), replace=False).astype(np.uint64)
                worker.push("w", keys, rng.standard_normal((len(keys), 2)).astype(np.float32))
                pulls.append(worker.pull("w", keys[:3], ahead=1))
                worker.tick()
            read = [worker.wait(pull) for pull in pulls]
            worker.finish()
            everything = np.arange(400, dtype=np.uint64)
            observer = server.client()
            tables.append(np.concatenate([*read, observer.wait(observer.pull("w", everything))]))
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_array_equal(tables[0], tables[2])
