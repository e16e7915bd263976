"""What every model must do, whatever it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models import (
    MODELS,
    Columns,
    LogisticRegressionConfig,
    Model,
    Rows,
    StepResult,
    WideDeepConfig,
    auc,
    build_model,
    pulled,
)
from weiml.models.kernels import sigmoid
from weiml.ps import Client, EmbeddedParameterServer, unique_keys

BatchOf = Callable[..., Batch]


def make(name: str, batch: Batch, seed: int = 3) -> Model:
    config = {"hidden": [16, 8], "lr": 0.01} if name == "wide_deep" else {}
    return build_model(name, config, Columns.of(batch), seed=seed)


def take_step(model: Model, client: Client, batch: Batch) -> StepResult:
    step = model.step(client, batch)
    try:
        gradient = next(step)
        while True:
            gradient = step.send(gradient)
    except StopIteration as stop:
        client.wait(client.tick())
        result: StepResult = stop.value
        return result


def score(model: Model, client: Client, batch: Batch) -> np.ndarray:
    distinct, positions = unique_keys(model.keys(batch))
    rows = {
        table.name: Rows(pulled(client, client.pull(table.name, distinct)), positions)
        for table in model.tables()
    }
    return np.asarray(sigmoid(model.logits(batch, rows)))


def train(name: str, batches: list[Batch], seed: int = 3) -> tuple[Model, np.ndarray, list[float]]:
    model = make(name, batches[0], seed)
    with EmbeddedParameterServer() as server:
        for table in model.tables():
            server.create_table(table)
        client = server.client(0)
        results = [take_step(model, client, batch) for batch in batches]
        losses = [result.loss / result.weight for result in results]
        return model, score(model, client, batches[0]), losses


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("values", [False, True])
def test_it_learns(name: str, batch_of: BatchOf, values: bool) -> None:
    batches = [batch_of(256, seed, values=values) for seed in range(40)]
    _, scores, losses = train(name, batches)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.02
    assert auc(batches[0].labels, scores) > 0.7


def test_equal_seeds_give_equal_bits(name: str, batch_of: BatchOf) -> None:
    batches = [batch_of(64, seed) for seed in range(4)]
    first, first_scores, first_losses = train(name, batches)
    second, second_scores, second_losses = train(name, batches)
    np.testing.assert_array_equal(first_scores, second_scores)
    np.testing.assert_array_equal(first.dense_vector(), second.dense_vector())
    assert first_losses == second_losses


def test_scores_do_not_depend_on_the_batch(name: str, batch_of: BatchOf) -> None:
    batches = [batch_of(256, seed) for seed in range(8)]
    model = make(name, batches[0])
    with EmbeddedParameterServer() as server:
        for table in model.tables():
            server.create_table(table)
        client = server.client(0)
        for batch in batches:
            take_step(model, client, batch)
        together = score(model, client, batches[0])
        alone = np.concatenate(
            [score(model, client, batches[0].slice(i, i + 1)) for i in range(40)]
        )
        shuffled = np.random.default_rng(0).permutation(256)
        moved = score(model, client, batches[0].take(shuffled))
    np.testing.assert_allclose(alone, together[:40], atol=1e-6)
    np.testing.assert_allclose(moved, together[shuffled], atol=1e-6)


def test_examples_without_weight_change_nothing(name: str, batch_of: BatchOf) -> None:
    batch = batch_of(64)
    batch.weights[:] = 0
    model = make(name, batch)
    with EmbeddedParameterServer() as server:
        for table in model.tables():
            server.create_table(table)
        client = server.client(0)
        before = score(model, client, batch)
        assert take_step(model, client, batch).loss == 0
        np.testing.assert_allclose(score(model, client, batch), before, atol=1e-6)


def test_dense_part_travels_as_one_vector(name: str, batch_of: BatchOf) -> None:
    batches = [batch_of(64, seed) for seed in range(3)]
    trained, _, _ = train(name, batches)
    other = make(name, batches[0], seed=99)
    other.set_dense_vector(trained.dense_vector())
    other.set_dense_state(trained.dense_state())
    for key, tensor in trained.dense_tensors().items():
        np.testing.assert_array_equal(other.dense_tensors()[key], tensor)
    for key, memory in trained.dense_state().items():
        np.testing.assert_array_equal(other.dense_state()[key], memory)
    with pytest.raises(DataError):
        other.set_dense_vector(np.zeros(len(trained.dense_vector()) + 1, np.float32))


def test_other_columns_are_refused(name: str, batch_of: BatchOf) -> None:
    model = build_model(name, {}, Columns(slots=("user",), dense_names=()))
    with pytest.raises(DataError, match=r"made for slots \('user',\)"):
        model.check(batch_of(2))


def test_models_are_built_by_name(batch_of: BatchOf) -> None:
    columns = Columns.of(batch_of(1))
    with pytest.raises(ConfigError, match="'wide_dep'; did you mean 'wide_deep'"):
        build_model("wide_dep", {}, columns)
    with pytest.raises(ConfigError, match="LogisticRegressionConfig"):
        build_model("lr", WideDeepConfig(), columns)
    with pytest.raises(ConfigError, match="unknown key 'optimiser'; did you mean 'optimizer'"):
        build_model("lr", {"optimiser": {}}, columns)
    model = build_model("lr", LogisticRegressionConfig(), columns)
    again = build_model("lr", model.config_mapping(), columns)
    assert again.config == model.config
