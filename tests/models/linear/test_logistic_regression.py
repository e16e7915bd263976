"""Logistic regression: the batch is trained serially, whatever the number of shards."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.features import Batch, Cross, CrossGroups, with_crosses
from weiml.models import Columns, LogisticRegression, LogisticRegressionConfig, Rows, build_model
from weiml.ps import FTRL, Client, EmbeddedParameterServer

BatchOf = Callable[..., Batch]
CONFIG = LogisticRegressionConfig(optimizer=FTRL(alpha=0.1, beta=1.0, l1=0.05, l2=0.5))


def train(
    batches: list[Batch], num_shards: int = 1, config: LogisticRegressionConfig = CONFIG
) -> tuple[LogisticRegression, dict[int, float]]:
    model = LogisticRegression(config, Columns.of(batches[0]))
    with EmbeddedParameterServer(num_shards) as server:
        server.create_table(*model.tables())
        client = server.client(0)
        for batch in batches:
            finish(model, client, batch)
        keys, weights = client.delta(0).tables["linear"]
    return model, dict(zip(keys.tolist(), weights[:, 0].tolist(), strict=True))


def finish(model: LogisticRegression, client: Client, batch: Batch) -> None:
    step = model.step(client, batch)
    with pytest.raises(StopIteration):
        next(step)
    client.wait(client.tick())


def test_one_big_batch_learns_like_many_small_ones(batch_of: BatchOf) -> None:
    batch = batch_of(300, values=True)
    _, whole = train([batch])
    _, single = train([batch.slice(i, i + 1) for i in range(300)])
    assert whole.keys() == single.keys()
    for key, weight in whole.items():
        # Differences pushed and added again round once more a step.
        assert weight == pytest.approx(single[key], abs=2e-5)


CROSSED = dataclasses.replace(
    CONFIG,
    crosses=(Cross("user_x_item", of=("user", "item")),),
    cross_groups=(CrossGroups("all", groups=(("user", "item"), ("tags",))),),
)


@pytest.mark.parametrize("values", [False, True])
def test_crosses_on_the_fly_learn_and_score_the_bits_of_stored_ones(
    batch_of: BatchOf, values: bool
) -> None:
    batches = [batch_of(60, seed, values=values) for seed in range(3)]
    crosses = (*CROSSED.crosses, *CROSSED.cross_groups[0].crosses)
    stored = [with_crosses(batch, crosses) for batch in batches]
    model, weights = train(batches, config=CROSSED)
    other, expected = train(stored)
    assert weights == expected
    assert len(weights) > len(train(batches)[1])
    keys = model.keys(batches[0])["linear"]
    np.testing.assert_array_equal(keys, other.keys(stored[0])["linear"])
    rows = Rows(
        np.array([[weights[key]] for key in keys.tolist()], np.float32), np.arange(keys.size)
    )
    np.testing.assert_array_equal(
        model.logits(batches[0], {"linear": rows}), other.logits(stored[0], {"linear": rows})
    )


def test_crosses_survive_json_and_name_slots_that_are_none(batch_of: BatchOf) -> None:
    columns = Columns.of(batch_of(2))
    mapping = json.loads(json.dumps(LogisticRegression(CROSSED, columns).config_mapping()))
    assert build_model("lr", mapping, columns).config == CROSSED
    wrong = dataclasses.replace(CONFIG, crosses=(Cross("x", of=("user", "itm")),))
    with pytest.raises(ConfigError, match="cross 'x': 'itm' is not .* did you mean 'item'"):
        LogisticRegression(wrong, columns)


def test_shards_do_not_change_a_bit(batch_of: BatchOf) -> None:
    batches = [batch_of(50, seed) for seed in range(4)]
    assert train(batches, 1)[1] == train(batches, 3)[1]


def test_logits_add_bias_dense_columns_and_keys(batch_of: BatchOf) -> None:
    batch = batch_of(5, values=True)
    model = LogisticRegression(CONFIG, Columns.of(batch))
    keys = model.keys(batch)["linear"]
    assert len(keys) == len(batch.keys) + 5 * 3
    rng = np.random.default_rng(1)
    table = {key: float(rng.standard_normal()) for key in dict.fromkeys(keys.tolist())}
    distinct = np.array(list(table), np.uint64)
    weights = np.array(list(table.values()), np.float32)[:, None]
    places = {key: place for place, key in enumerate(table)}
    positions = np.array([places[key] for key in keys.tolist()])
    logits = model.logits(batch, {"linear": Rows(weights, positions)})
    own = distinct[:3].tolist()  # bias and dense columns come first in every example
    assert batch.values is not None
    for b in range(5):
        expected = table[own[0]]
        expected += sum(table[own[1 + d]] * float(batch.dense[b, d]) for d in range(2))
        for j in range(batch.offsets[3 * b], batch.offsets[3 * b + 3]):
            expected += table[int(batch.keys[j])] * float(batch.values[j])
        assert logits[b] == pytest.approx(expected, abs=1e-5)


def test_l1_leaves_rows_at_zero(batch_of: BatchOf) -> None:
    model = LogisticRegression(
        LogisticRegressionConfig(optimizer=FTRL(alpha=0.1, l1=1e3)), Columns.of(batch_of(1))
    )
    with EmbeddedParameterServer() as server:
        server.create_table(*model.tables())
        client = server.client(0)
        finish(model, client, batch_of(100))
        _, weights = client.delta(0).tables["linear"]
    assert not weights.any()


def test_the_loss_is_progressive(batch_of: BatchOf) -> None:
    batch = batch_of(1)
    model = LogisticRegression(CONFIG, Columns.of(batch))
    with EmbeddedParameterServer() as server:
        server.create_table(*model.tables())
        step = model.step(server.client(0), batch)
        with pytest.raises(StopIteration) as stop:
            next(step)
    assert stop.value.value.loss == pytest.approx(math.log(2) * batch.weights[0], rel=1e-6)
