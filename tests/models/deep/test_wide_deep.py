"""Wide & Deep: what is pushed are the gradients that autograd gives for the whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models import Columns, WideDeep, WideDeepConfig, pulled
from weiml.ps import EmbeddedParameterServer, unique_keys

BatchOf = Callable[..., Batch]
CONFIG = WideDeepConfig(embedding_dim=4, hidden=(8, 6), init_scale=0.5)


class Pushes:
    """A client that notes what is pushed on its way to the real one."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.gradients: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def push(self, table: str, keys: np.ndarray, values: np.ndarray) -> Any:
        self.gradients[table] = keys, values
        return self.client.push(table, keys, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def reference(
    model: WideDeep, batch: Batch, rows: dict[str, np.ndarray], config: WideDeepConfig
) -> dict[str, np.ndarray]:
    """Gradients of the sum of losses in float64, by autograd over plain tensors."""
    _, positions = unique_keys(batch.keys)
    embedding = torch.tensor(rows["embedding"].astype(float), requires_grad=True)
    wide = torch.tensor(rows["linear"].astype(float), requires_grad=True)
    dense = {
        name: torch.tensor(tensor.astype(float), requires_grad=True)
        for name, tensor in model.dense_tensors().items()
    }
    assert batch.values is not None
    values = torch.tensor(batch.values.astype(float))
    losses = []
    for b in range(len(batch)):
        parts, linear = [], torch.zeros((), dtype=torch.float64)
        for s in range(3):
            own = slice(*batch.offsets[3 * b + s : 3 * b + s + 2])
            places = torch.tensor(positions[own], dtype=torch.int64)
            total = (embedding[places] * values[own, None]).sum(0)
            parts.append(total / max(len(places), 1) if config.pooling == "mean" else total)
            linear = linear + (wide[places, 0] * values[own]).sum()
        x = torch.cat([*parts, torch.tensor(batch.dense[b].astype(float))])
        for i in range(3):
            x = F.linear(x, dense[f"mlp.layers.{2 * i}.weight"], dense[f"mlp.layers.{2 * i}.bias"])
            x = F.relu(x) if i < 2 else x
        label = torch.tensor(float(batch.labels[b, 0]), dtype=torch.float64)
        loss = F.binary_cross_entropy_with_logits(x[0] + linear, label)
        losses.append(loss * float(batch.weights[b]))
    torch.autograd.backward(torch.stack(losses).sum())
    gradients: dict[str, Any] = {"embedding": embedding.grad, "linear": wide.grad}
    gradients["dense"] = torch.cat(
        [t.grad.reshape(-1) for t in dense.values() if t.grad is not None]
    )
    return {name: gradient.numpy() for name, gradient in gradients.items()}


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("multiplicity", ["sum", "sqrt", "mean"])
def test_gradients_equal_autograd(batch_of: BatchOf, pooling: Any, multiplicity: Any) -> None:
    batch = batch_of(20, values=True)
    config = replace(CONFIG, pooling=pooling, multiplicity=multiplicity)
    model = WideDeep(config, Columns.of(batch))
    with EmbeddedParameterServer() as server:
        for table in model.tables():
            server.create_table(table)
        client = Pushes(server.client(0))
        distinct, positions = unique_keys(batch.keys)
        rows = {
            table.name: pulled(client.client, client.pull(table.name, distinct))
            for table in model.tables()
        }
        expected = reference(model, batch, rows, config)
        step = model.step(client, batch)  # type: ignore[arg-type]
        dense = next(step)
    counts = np.bincount(positions)[:, None].astype(float)
    divisor = {"sum": 1.0, "sqrt": np.sqrt(counts), "mean": counts}[multiplicity]
    for name in ("embedding", "linear"):
        keys, gradients = client.gradients[name]
        np.testing.assert_array_equal(keys, distinct)
        np.testing.assert_allclose(gradients, expected[name] / divisor, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(dense[:-1], expected["dense"], rtol=1e-3, atol=1e-5)
    assert dense[-1] == pytest.approx(batch.weights.sum())


def _gradient_alone(model: WideDeep, client: Any, batch: Batch) -> np.ndarray:
    model.network.forget()
    return next(model.step(client, batch)).copy()


def test_dropout_differs_by_worker_and_step_but_not_by_run(batch_of: BatchOf) -> None:
    batch = batch_of(50)
    config = replace(CONFIG, dropout=0.5)

    def gradients(rank: int) -> list[np.ndarray]:
        model = WideDeep(config, Columns.of(batch), seed=5, rank=rank)
        with EmbeddedParameterServer() as server:
            for table in model.tables():
                server.create_table(table)
            client = server.client()
            return [_gradient_alone(model, client, batch) for _ in range(2)]

    first = gradients(0)
    np.testing.assert_array_equal(first, gradients(0))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], gradients(1)[0])


def test_torchs_threads_and_random_state_are_left_alone(batch_of: BatchOf) -> None:
    batch = batch_of(10)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        model = WideDeep(replace(CONFIG, dropout=0.3), Columns.of(batch))
        with EmbeddedParameterServer() as server:
            for table in model.tables():
                server.create_table(table)
            step = model.step(server.client(0), batch)
            step.send(None)  # type: ignore[arg-type]
            assert torch.get_num_threads() == 2
            with pytest.raises(StopIteration):
                step.send(np.ones(len(model.dense_vector()) + 1, np.float32))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WideDeepConfig(**values)
