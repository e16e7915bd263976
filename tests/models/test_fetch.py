"""Rows that were asked for too early are mended by what they miss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.conftest import make_batch
from weiml.models import Columns, LogisticRegression, LogisticRegressionConfig
from weiml.models.fetch import Fetch, Lookup, Prepared
from weiml.ps import EmbeddedParameterServer

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


def train(staleness: int | None, *, early: bool) -> tuple[np.ndarray, np.ndarray]:
    batches = [make_batch(60, seed) for seed in range(6)]
    model = LogisticRegression(LogisticRegressionConfig(), Columns.of(batches[0]))
    with EmbeddedParameterServer(2, staleness=staleness) as server:
        server.create_table(*model.tables())
        client = server.client(0)
        fetch = model.fetch(client, model.prepare(batches[0]))
        for following in [*batches[1:], None]:
            later = None
            if following is not None and early:
                later = model.fetch(client, model.prepare(following), ahead=1)
            misses = later if staleness != 0 else None
            with pytest.raises(StopIteration):
                next(model.step(client, fetch, missed_by=misses))
            client.tick()
            if following is not None:
                fetch = later or model.fetch(client, model.prepare(following))
        keys, weights = client.delta(0).tables["linear"]
        return keys, weights


@pytest.mark.parametrize("staleness", [0, 1, None])
def test_a_lone_worker_that_asks_early_trains_to_the_bit_as_if_it_did_not(
    staleness: int | None,
) -> None:
    expected = train(0, early=False)
    found = train(staleness, early=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
