"""A step's pushes go beside the next step's products, once, in order, and name their step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np
import pytest

from weiml.errors import DivergedError, GradientError
from weiml.models.stages import Stages
from weiml.ps import SGD, Client, EmbeddedParameterServer, TableConfig
from weiml.train.outbox import Outbox

KEYS = np.array([3, 5], np.uint64)


@pytest.fixture
def client() -> Iterator[Client]:
    with EmbeddedParameterServer(staleness=1) as server:
        server.create_table(TableConfig("w", optimizer=SGD(lr=1.0)))
        yield server.client(0)


@pytest.fixture
def outbox(client: Client) -> Iterator[Outbox]:
    outbox = Outbox(client, Stages())
    yield outbox
    outbox.close()


def push(value: float, threads: list[int]) -> Callable[[Client], None]:
    def send(client: Client) -> None:
        threads.append(threading.get_ident())
        client.push("w", KEYS, np.full((2, 1), value, np.float32))

    return send


def blame(error: GradientError) -> NoReturn:
    raise DivergedError(f"step 7: {error}")


def weights(client: Client) -> list[float]:
    rows = client.wait(client.pull("w", KEYS))
    return [float(weight) for weight in rows[:, 0]]


def test_what_is_owed_is_sent_by_another_thread(outbox: Outbox, client: Client) -> None:
    threads: list[int] = []
    told: list[int] = []
    outbox.put(push(1.0, threads), blame)
    outbox.start(lambda: told.append(threading.get_ident()))
    (ticket,) = outbox.settle()
    assert not outbox.owes
    assert client.wait(ticket) == 1
    assert weights(client) == [-1.0, -1.0]
    assert threads == told != [threading.get_ident()]


def test_what_was_not_begun_is_sent_when_it_is_settled(outbox: Outbox, client: Client) -> None:
    threads: list[int] = []
    for step in (1, 2):
        outbox.put(push(float(step), threads), blame)
        (ticket,) = outbox.settle()
        assert client.wait(ticket) == step
    assert outbox.settle() == []
    assert weights(client) == [-3.0, -3.0]
    assert set(threads) == {threading.get_ident()}


@pytest.mark.parametrize("begun", [True, False])
def test_a_refused_push_names_its_step_and_does_not_tick(
    begun: bool, outbox: Outbox, client: Client
) -> None:
    outbox.put(push(float("nan"), []), blame)
    if begun:
        outbox.start(lambda: pytest.fail("goes on after a refusal"))
    with pytest.raises(DivergedError, match=r"step 7: .*finite"):
        outbox.settle()
    assert not outbox.owes
    outbox.put(push(1.0, []), blame)
    (ticket,) = outbox.settle()
    assert client.wait(ticket) == 1
    assert weights(client) == [-1.0, -1.0]
