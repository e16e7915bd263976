"""Rows that were asked for too early are mended by what they miss."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.conftest import make_batch
from weiml.models import (
    Columns,
    LogisticRegression,
    LogisticRegressionConfig,
    WideDeep,
    WideDeepConfig,
)
from weiml.models.base import TrainingStep
from weiml.models.fetch import Fetch, Lookup, Prepared
from weiml.ps import Client, EmbeddedParameterServer, Ticket

KEYS = st.lists(st.integers(0, 40).map(lambda n: n * 2**58 + n), max_size=30, unique=True)


@given(KEYS, st.lists(KEYS, max_size=3), st.integers(0, 2**32 - 1))
def test_every_missed_push_is_added_once(
    keys: list[int], pushes: list[list[int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    nothing = np.empty(0, np.int32)
    lookup = Lookup(np.array(keys, np.uint64), nothing, None, nothing)
    prepared = Prepared(make_batch(1), {"linear": lookup})
    fetch = Fetch(prepared=prepared, tickets={})
    state = rng.standard_normal((len(keys), 2)).astype(np.float32)
    expected = dict(zip(keys, state.copy(), strict=True))
    for pushed in pushes:
        differences = rng.standard_normal((len(pushed), 2)).astype(np.float32)
        fetch.missed.append((np.array(pushed, np.uint64), differences))
        for key, difference in zip(pushed, differences, strict=True):
            if key in expected:
                expected[key] = expected[key] + difference
    fetch.mend("linear", state)
    assert all((row == expected[key]).all() for key, row in zip(keys, state, strict=True))
    again = state.copy()
    fetch.mend("linear", state)
    np.testing.assert_array_equal(state, again)


def run_alone(step: TrainingStep) -> None:
    """Take a step of the only worker, whose gradient is the mean."""
    with suppress(StopIteration):
        mean = next(step)
        while True:
            mean = step.send(mean)


def serve_late(client: Client) -> None:
    """Let pulls act when they are waited for: the latest that a shard may."""
    at_once = client.pull

    def late(table: str, keys: np.ndarray, **how: Any) -> Ticket:
        return Ticket(lambda: at_once(table, keys, **how).wait())

    vars(client)["pull"] = late


def train(
    staleness: int | None, *, early: bool, deep: bool = False, late: bool = False
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    batches = [make_batch(60, seed) for seed in range(6)]
    columns = Columns.of(batches[0])
    model = (
        WideDeep(WideDeepConfig(hidden=(8,), embedding_dim=4), columns)
        if deep
        else LogisticRegression(LogisticRegressionConfig(), columns)
    )
    with EmbeddedParameterServer(2, staleness=staleness) as server:
        for table in model.tables():
            server.create_table(table)
        client = server.client(0)
        if late:
            serve_late(client)
        fetch = model.fetch(client, model.prepare(batches[0]))
        for following in [*batches[1:], None]:
            later = None
            if following is not None and early:
                later = model.fetch(client, model.prepare(following), ahead=1)
            misses = later if staleness != 0 else None
            run_alone(model.step(client, fetch, missed_by=misses))
            client.tick()
            if following is not None:
                fetch = later or model.fetch(client, model.prepare(following))
        return dict(client.delta(0).tables)


def assert_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, arrays in ours.items():
        for mine, other in zip(arrays, theirs[name], strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("staleness", [0, 1, None])
def test_a_lone_worker_that_asks_early_trains_to_the_bit_as_if_it_did_not(
    staleness: int | None,
) -> None:
    assert_equal(train(staleness, early=True), train(0, early=False))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("staleness", [1, None])
def test_what_early_rows_miss_is_not_left_to_how_late_a_shard_serves_them(
    staleness: int | None, deep: bool
) -> None:
    prompt = train(staleness, early=True, deep=deep)
    assert_equal(train(staleness, early=True, deep=deep, late=True), prompt)
