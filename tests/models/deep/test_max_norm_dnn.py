"""The sparse layer is its equation in float64, and its maxima are those of all workers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models import Columns, MaxNormDNN, MaxNormDNNConfig, Predictor, Rows, save_model
from weiml.models.checks import example_batch, trained
from weiml.models.fetch import Fetch
from weiml.ps import Cut, EmbeddedParameterServer, Ticket, WireConfig, unique_keys

SMALL = MaxNormDNNConfig(embedding_dim=5, hidden=(4,), act="tanh", multiplicity="sum")


def values_of(batch: Batch) -> np.ndarray:
    return np.ones(len(batch.keys), np.float32) if batch.values is None else batch.values


def signed(seed: int, count: int = 12) -> Batch:
    """Return examples whose values are of either sign, some 0, and very different in size."""
    batch = example_batch(count, seed, values=True)
    rng = np.random.default_rng(seed)
    values = values_of(batch) * rng.choice([-100, -1, 0, 0.01, 1], len(batch.keys))
    weights = batch.weights * (rng.random(count) < 0.8)
    return replace(batch, values=values.astype(np.float32), weights=weights)


def largest(batches: list[Batch]) -> dict[int, float]:
    """Return the largest |x| above 0 of each key, in examples that have weight."""
    found: dict[int, float] = {}
    for batch in batches:
        for b in np.flatnonzero(batch.weights):
            own = slice(*batch.offsets[[4 * b, 4 * b + 4]])
            for key, x in zip(
                batch.keys[own].tolist(), values_of(batch)[own].tolist(), strict=True
            ):
                found[key] = max(found.get(key, 0.0), abs(x))
    return {key: x for key, x in found.items() if x}


def reference(model: MaxNormDNN, batch: Batch, rows: torch.Tensor, maxima: Any) -> torch.Tensor:
    """Return float64 (B,) logits; `maxima` are what the values are divided by."""
    net = {name: torch.tensor(t.astype(float)) for name, t in model.dense_tensors().items()}
    _, positions = unique_keys(batch.keys)
    logits = []
    for b in range(len(batch)):
        h = net["bias"]
        for j in range(*batch.offsets[[4 * b, 4 * b + 4]]):
            row = rows[positions[j]]
            x = float(values_of(batch)[j])
            scaled = min(max(x / max(float(maxima[positions[j]]), 1e-5), -1.0), 1.0)
            h = h + (scaled + row[-1]) * row[:-1]
        a = torch.cat([torch.tanh(h), torch.tensor(batch.dense[b].astype(float))])
        a = torch.tanh(net["mlp.layers.0.weight"] @ a + net["mlp.layers.0.bias"])
        logits.append((net["mlp.layers.2.weight"] @ a + net["mlp.layers.2.bias"])[0])
    return torch.stack(logits)


class Pushes:
    """A client that answers pulls and notes what is pushed."""

    def __init__(self) -> None:
        self.pushed: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def wait(self, ticket: Any) -> Any:
        return ticket.wait()

    def push(self, table: str, keys: np.ndarray, values: np.ndarray) -> None:
        self.pushed[table] = keys, values


@given(seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_logits_and_gradients_follow_the_equation(seed: int) -> None:
    batch = signed(seed)
    model = MaxNormDNN(SMALL, Columns.of(batch), seed=1)
    prepared = model.prepare(batch)
    distinct, positions, *_ = prepared.lookups["embedding"]
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(len(distinct), 6)).astype(np.float32)
    maxima = rng.choice([0.0, 0.5, 3.0], (len(distinct), 1)).astype(np.float32)
    tables = {"embedding": Rows(rows, positions), "norm": Rows(maxima, positions)}
    expected = reference(model, batch, torch.tensor(rows.astype(float)), maxima[:, 0])
    np.testing.assert_allclose(model.logits(batch, tables), expected, rtol=1e-4, atol=1e-5)

    client: Any = Pushes()
    tickets = {name: Ticket(partial(np.copy, t.weights)) for name, t in tables.items()}
    model.compute(client, Fetch(prepared=prepared, tickets=tickets))
    model.push(client)
    seen = largest([batch])
    raised = [max(float(m), seen.get(k, 0.0)) for k, m in zip(distinct, maxima[:, 0], strict=True)]
    exact = torch.tensor(rows.astype(float), requires_grad=True)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        reference(model, batch, exact, raised),
        torch.tensor(batch.labels[:, 0].astype(float)),
        weight=torch.tensor(batch.weights.astype(float)),
        reduction="sum",
    )
    torch.autograd.backward(losses)
    assert exact.grad is not None
    np.testing.assert_allclose(client.pushed["embedding"][1], exact.grad, rtol=1e-3, atol=1e-4)
    grown = {int(k): m for k, m, r in zip(distinct, maxima[:, 0], raised, strict=True) if r > m}
    keys, values = client.pushed.get("norm", (np.empty(0), np.empty((0, 1))))
    assert set(keys.tolist()) == set(grown), "only what grew travels"
    assert dict(zip(keys.tolist(), values[:, 0].tolist(), strict=True)) == {
        k: seen[k] for k in grown
    }


@pytest.mark.parametrize("staleness", [0, 1, None])
@pytest.mark.parametrize("wire", [WireConfig(), WireConfig(push="int8", push_fraction=0.2)])
def test_maxima_are_those_of_all_workers(staleness: int | None, wire: WireConfig) -> None:
    batches = [signed(seed, 40) for seed in range(6)]
    server = EmbeddedParameterServer(3, num_workers=2, staleness=staleness)
    models = [MaxNormDNN(SMALL, Columns.of(batches[0]), rank=rank) for rank in range(2)]
    for table in models[0].tables():
        server.create_table(table)
    clients = [server.client(rank, wire=wire) for rank in range(2)]
    for first in range(0, 6, 2):
        for model, client, batch in zip(models, clients, batches[first:], strict=False):
            model.compute(client, model.fetch(client, model.prepare(batch)))
            model.push(client)
        for client in clients:
            client.tick()
    for client in clients:
        client.finish()
    keys, maxima = server.client().delta(Cut.zero()).tables["norm"]
    assert dict(zip(keys.tolist(), maxima[:, 0].tolist(), strict=True)) == largest(batches)


def test_deltas_and_folders_bring_the_maxima_to_serving(tmp_path: Path) -> None:
    made = trained(SMALL, [signed(seed, 40) for seed in range(3)])
    predictor = Predictor.load(save_model(tmp_path / "model", made.model, made.server).path)
    cut = made.client.delta(Cut.zero()).cut
    larger = replace(signed(5, 40), values=np.full(len(signed(5, 40).keys), 1e4, np.float32))
    made.step(larger)
    delta = made.client.delta(cut)
    assert len(delta.tables["norm"][0])
    predictor.model.set_dense_vector(made.model.dense_vector())
    predictor.apply_delta(delta)
    batch = signed(1, 40)
    np.testing.assert_allclose(predictor.score_tasks(batch), made.score(batch), atol=1e-6)


def test_no_value_is_too_large_and_a_zero_is_not_a_missing_one() -> None:
    def told_by_presence(seed: int) -> Batch:
        """Values are 0 or huge; the label is whether there is a tag."""
        batch = example_batch(200, seed, values=True)
        lengths = np.diff(batch.offsets).reshape(200, 4)
        slot = np.repeat(np.tile(np.arange(4), 200), lengths.reshape(-1))
        huge = np.where(np.arange(len(slot)) % 3 == 0, 3e37, -1e30)
        values = np.where(slot == 2, 0.0, huge).astype(np.float32)
        values[np.flatnonzero(slot == 2)[:5]] = 1e-3  # else its weights, which start at 0, stay
        labels = (lengths[:, 2:3] > 0).astype(np.float32)
        return replace(batch, values=values, labels=labels)

    config = MaxNormDNNConfig(embedding_dim=8, hidden=(8,), lr=0.02)
    made = trained(config, [told_by_presence(seed) for seed in range(60)])
    assert np.isfinite(made.losses).all()
    assert made.losses[-1] < 0.3


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ConfigError, match="embedding_dim must be below 256"):
        MaxNormDNNConfig(embedding_dim=256)
