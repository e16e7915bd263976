"""Training in place is the serial algorithm to the bit, and deltas know what it changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from weiml.models.serial_ftrl import row_addresses

from tests.models.conftest import make_batch
from weiml.errors import ConfigError, DataError, ParameterServerError
from weiml.models import Columns, LogisticRegression, LogisticRegressionConfig
from weiml.ps import FTRL, EmbeddedParameterServer
from weiml.train.in_place import train_in_place

CONFIG = LogisticRegressionConfig(optimizer=FTRL(alpha=0.1, beta=1.0, l1=0.02, l2=0.5))
BATCH = make_batch(500, values=True)


def new_model() -> LogisticRegression:
    return LogisticRegression(CONFIG, Columns.of(BATCH))


def serially() -> tuple[dict[int, list[float]], float]:
    """Return each key's state after one pass over rows in a plain array, and the loss."""
    model = new_model()
    prepared = model.prepare(BATCH)
    state = np.zeros((len(prepared.keys), 2), np.float32)
    loss = model.train_rows(prepared, row_addresses(state)).loss
    return dict(zip(prepared.keys.tolist(), state.tolist(), strict=True)), loss


@pytest.mark.parametrize(("batch_size", "num_shards"), [(500, 1), (500, 3), (37, 1), (1, 2)])
def test_neither_batches_nor_shards_change_a_bit(batch_size: int, num_shards: int) -> None:
    expected, expected_loss = serially()
    model = new_model()
    pieces = (BATCH.slice(i, i + batch_size) for i in range(0, len(BATCH), batch_size))
    with EmbeddedParameterServer(num_shards) as server:
        server.create_table(*model.tables())
        results = list(train_in_place(model, server, pieces))
        client = server.client()
        keys = np.array(list(expected), np.uint64)
        state = np.asarray(client.wait(client.pull("linear", keys, "state")))
        assert server.status()["tables"]["linear"] == len(expected)
    np.testing.assert_array_equal(state, np.array(list(expected.values()), np.float32))
    assert sum(result.examples for result in results) == 500
    assert sum(result.loss for result in results) == pytest.approx(expected_loss, rel=1e-12)
    assert {"read", "prepare", "locate", "compute"} == set(model.stages.take())


def test_pushing_differences_gives_the_same_but_for_rounding() -> None:
    expected, expected_loss = serially()
    model = new_model()
    loss = 0.0
    with EmbeddedParameterServer() as server:
        server.create_table(*model.tables())
        client = server.client(0)
        for start in range(0, len(BATCH), 50):
            with pytest.raises(StopIteration) as stop:
                next(model.step(client, BATCH.slice(start, start + 50)))
            loss += stop.value.value.loss
            client.wait(client.tick())
        keys = np.array(list(expected), np.uint64)
        state = np.asarray(client.wait(client.pull("linear", keys, "state")))
    np.testing.assert_allclose(state, np.array(list(expected.values())), rtol=1e-4, atol=1e-4)
    assert loss == pytest.approx(expected_loss, rel=1e-6)


def test_what_changed_is_in_the_next_delta() -> None:
    model = new_model()
    with EmbeddedParameterServer(2) as server:
        server.create_table(*model.tables())
        client = server.client()
        list(train_in_place(model, server, [BATCH.slice(0, 300)]))
        cut = client.delta(0).cut
        part = BATCH.slice(300, 310)
        list(train_in_place(model, server, [part]))
        changed, weights = client.delta(cut).tables["linear"]
        assert set(changed.tolist()) == set(model.keys(part).tolist())
        now = client.wait(client.pull("linear", changed))
    np.testing.assert_array_equal(weights, now)


def test_what_cannot_be_learned_from_is_named() -> None:
    model = new_model()
    with EmbeddedParameterServer() as server:
        server.create_table(*model.tables())
        dense = BATCH.dense.copy()
        dense[400, 1] = np.inf
        halves = [BATCH.slice(0, 250), replace(BATCH, dense=dense).slice(250, 500)]
        training = train_in_place(model, server, halves)
        next(training)
        with pytest.raises(DataError, match="step 2: dense column 'price'"):
            next(training)
        with pytest.raises(DataError, match="made for slots"):
            next(train_in_place(model, server, [replace(BATCH, slots=("a", "b", "c"))]))
        huge = replace(BATCH, dense=BATCH.dense * np.float32(5e37))
        with pytest.raises(ConfigError, match="training diverged at step 1"):
            next(train_in_place(model, server, [huge]))


def test_a_table_that_keeps_keys_out_is_refused() -> None:
    model = new_model()
    with EmbeddedParameterServer(num_buckets=2) as server:
        server.create_table(replace(model.tables()[0], capacity=2))
        with pytest.raises(ParameterServerError, match="keeps .* keys out"):
            next(train_in_place(model, server, [BATCH]))
