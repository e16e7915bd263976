"""FM and FFM equal the sum over all pairs of keys, in float64 and loops; so do their gradients."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models import FFM, FM, Columns, DeepModel, FFMConfig, FMConfig, Rows
from weiml.models.checks import SLOTS, example_batch
from weiml.models.fetch import Fetch
from weiml.ps import Ticket, unique_keys

S = len(SLOTS)


def made(kind: type[DeepModel], batch: Batch, **knobs: Any) -> DeepModel:
    """Return a model whose dense part is not zeros either."""
    model = kind(kind.config_class(**knobs), Columns.of(batch), seed=1)
    rng = np.random.default_rng(5)
    model.set_dense_vector(rng.normal(size=len(model.dense_vector())).astype(np.float32) / 2)
    return model


def drawn_rows(model: DeepModel, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    return {
        table.name: rng.normal(size=(count, table.dim)).astype(np.float32) / 2
        for table in model.tables()
    }


def terms(batch: Batch, b: int, pooling: str) -> list[tuple[int, int, float]]:
    """Return (slot, place in the batch's keys, x) of each key of an example."""
    found = []
    for s in range(S):
        own = range(*batch.offsets[S * b + s : S * b + s + 2])
        for j in own:
            x = 1.0 if batch.values is None else float(batch.values[j])
            found.append((s, j, x / len(own) if pooling == "mean" else x))
    return found


def reference(
    model: DeepModel, batch: Batch, rows: dict[str, torch.Tensor], pooling: str
) -> torch.Tensor:
    """Return float64 (B,) logits, pair by pair."""
    dense = {name: torch.tensor(t.astype(float)) for name, t in model.dense_tensors().items()}
    _, positions = unique_keys(batch.keys)
    logits = []
    for b in range(len(batch)):
        x_dense = torch.tensor(batch.dense[b].astype(float))
        total = dense["bias"] + dense["weights"] @ x_dense
        keys = terms(batch, b, pooling)
        for _, j, _ in keys:
            x = 1.0 if batch.values is None else float(batch.values[j])
            total = total + rows["linear"][positions[j], 0] * x
        v = rows["embedding"]
        if isinstance(model, FM):
            features = [(v[positions[j]], x) for _, j, x in keys]
            features += [(w, float(x)) for w, x in zip(dense["vectors"], x_dense, strict=True)]
            for (v1, x1), (v2, x2) in itertools.combinations(features, 2):
                total = total + (v1 @ v2) * x1 * x2
        else:
            k = model.config.embedding_dim
            for (s1, j1, x1), (s2, j2, x2) in itertools.combinations(keys, 2):
                first = v[positions[j1], s2 * k : (s2 + 1) * k]
                second = v[positions[j2], s1 * k : (s1 + 1) * k]
                total = total + (first @ second) * x1 * x2
        logits.append(total)
    return torch.stack(logits)


class Pushes:
    """A client that answers pulls and notes what is pushed."""

    def __init__(self) -> None:
        self.gradients: dict[str, np.ndarray] = {}

    def wait(self, ticket: Any) -> Any:
        return ticket.wait()

    def push(self, table: str, keys: np.ndarray, values: np.ndarray) -> None:
        self.gradients[table] = values


@pytest.mark.parametrize("kind", [FM, FFM])
@given(
    seed=st.integers(0, 999),
    values=st.booleans(),
    pooling=st.sampled_from(["mean", "sum"]),
    dim=st.integers(1, 5),
)
@settings(max_examples=12, deadline=None)
def test_logits_and_gradients_are_those_of_all_pairs(
    kind: type[DeepModel], seed: int, values: bool, pooling: Literal["mean", "sum"], dim: int
) -> None:
    batch = example_batch(9, seed, values=values)
    model = made(kind, batch, embedding_dim=dim, pooling=pooling, multiplicity="sum")
    prepared = model.prepare(batch)
    rows = drawn_rows(model, len(prepared.lookups["embedding"].keys))
    exact = {
        name: torch.tensor(row.astype(float), requires_grad=True) for name, row in rows.items()
    }
    expected = reference(model, batch, exact, pooling)
    positions = prepared.lookups["embedding"].positions
    got = model.logits(batch, {name: Rows(row, positions) for name, row in rows.items()})
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=2e-4, atol=2e-5)

    client: Any = Pushes()
    tickets = {name: Ticket(partial(np.copy, row)) for name, row in rows.items()}
    model.compute(client, Fetch(prepared=prepared, tickets=tickets))
    model.push(client)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        expected,
        torch.tensor(batch.labels[:, 0].astype(float)),
        weight=torch.tensor(batch.weights.astype(float)),
        reduction="sum",
    )
    torch.autograd.backward(losses)
    for name, row in exact.items():
        assert row.grad is not None
        np.testing.assert_allclose(
            client.gradients[name], row.grad.numpy(), rtol=2e-4, atol=2e-5, err_msg=name
        )


@pytest.mark.parametrize("kind", [FM, FFM])
def test_keys_without_rows_count_as_zeros(kind: type[DeepModel]) -> None:
    batch = example_batch(20)
    model = made(kind, batch, embedding_dim=3)
    distinct, positions = unique_keys(batch.keys)
    rows = drawn_rows(model, len(distinct))
    gone = positions % 3 == 0
    without = {n: Rows(r, np.where(gone, -1, positions).astype(np.int32)) for n, r in rows.items()}
    zeros = {n: np.where((np.arange(len(r)) % 3 == 0)[:, None], 0, r) for n, r in rows.items()}
    with_zeros = {n: Rows(r, positions) for n, r in zeros.items()}
    assert (model.logits(batch, without) == model.logits(batch, with_zeros)).all()


def test_what_does_not_fit_is_told() -> None:
    columns = Columns.of(example_batch(1))
    with pytest.raises(ConfigError, match=r"4 · 100 = 400 .* 256 at most; lower embedding_dim"):
        FFM(FFMConfig(embedding_dim=100), columns)
    with pytest.raises(ConfigError, match="model 'fm' reads no sequences"):
        FM(FMConfig(sequences=("history",)), columns)
