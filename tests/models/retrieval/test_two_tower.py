"""Two towers: the in-batch softmax by loops, vectors of each side alone, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.generated import tastes
from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models import Columns, Predictor, TwoTower, TwoTowerConfig
from weiml.models.checks import Trained, example_batch, trained
from weiml.models.retrieval.two_tower import in_batch_softmax
from weiml.ps import Cut

CONFIG = TwoTowerConfig(
    user_slots=("user", "history"),
    item_slots=("item", "tags"),
    item_dense=("price",),
    hidden=(8,),
    vector_dim=4,
    frequency_cells=1024,
    lr=0.01,
)


@pytest.mark.parametrize("corrected", [False, True])
def test_the_softmax_equals_a_loop_and_its_gradients_autograd(corrected: bool) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.standard_normal((2, 7, 3))
    ids = np.array([1, 2, 1, 3, 4, 2, 5])
    p = rng.uniform(0.1, 1, 7)[ids] if corrected else None
    weights = rng.uniform(0.5, 2, 7)
    tensors = [torch.tensor(x, requires_grad=True) for x in (users, items)]
    total, by_users, by_items = in_batch_softmax(
        tensors[0].detach(),
        tensors[1].detach(),
        torch.tensor(ids),
        None if p is None else torch.tensor(p),
        torch.tensor(weights),
        0.3,
    )
    losses = []
    for i in range(7):
        scores = [
            tensors[0][i] @ tensors[1][j] / 0.3 - (np.log(p[j]) if p is not None else 0)
            for j in range(7)
            if j == i or ids[j] != ids[i]
        ]
        own = sum(j == i or ids[j] != ids[i] for j in range(i))
        losses.append(-weights[i] * torch.log_softmax(torch.stack(scores), 0)[own])
    loss = torch.stack(losses).sum()
    torch.autograd.backward(loss)
    assert total == pytest.approx(float(loss.detach()))
    torch.testing.assert_close(by_users, tensors[0].grad)
    torch.testing.assert_close(by_items, tensors[1].grad)


def predictor_of(made: Trained) -> Predictor:
    return Predictor(made.model, made.server.client().delta(Cut.zero()).tables)


def vectors(predictor: Predictor, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    model, rows = predictor.model, predictor.rows(batch)
    assert isinstance(model, TwoTower)
    return model.embed_users(batch, rows), model.embed_items(batch, rows)


@pytest.mark.parametrize("objective", ["softmax", "logistic"])
def test_scores_are_those_of_the_vectors(objective: Any) -> None:
    config = replace(CONFIG, objective=objective)
    predictor = predictor_of(trained(config, [example_batch(64, seed) for seed in range(3)]))
    batch = example_batch(40, 9)
    users, items = vectors(predictor, batch)
    assert users.shape == items.shape == (40, 4)
    assert users.dtype == items.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-6)
    bias = predictor.model.dense_tensors()["bias"]
    assert (bias != 0) == (objective == "logistic")  # in the softmax it would cancel
    logits = (users * items).sum(1) / config.temperature + bias
    np.testing.assert_allclose(predictor.score(batch), 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_a_sides_vector_depends_on_its_own_columns_only() -> None:
    predictor = predictor_of(trained(CONFIG, [example_batch(64, seed) for seed in range(3)]))
    batch = example_batch(40, 9)
    users, items = vectors(predictor, batch)
    slot = np.repeat(np.tile(np.arange(4), 40), np.diff(batch.offsets))
    swapped = replace(batch, keys=np.where(slot == 1, batch.keys[1], batch.keys))
    dense = batch.dense.copy()
    dense[:, 1] = 5.0
    other_users, other_items = vectors(predictor, replace(swapped, dense=dense))
    np.testing.assert_array_equal(other_users, users)
    assert not np.allclose(other_items, items)


def test_examples_that_are_no_clicks_teach_the_softmax_nothing() -> None:
    clicks = example_batch(64)
    labels = np.ones_like(clicks.labels)
    labels[32:, 0], labels[40:48, 0] = 0, np.nan
    mixed = replace(clicks, labels=labels)
    first, second = trained(CONFIG, []), trained(CONFIG, [])
    alone = second.step(
        mixed.slice(0, 32)
    ).loss  # of another number of rows, products round differently
    assert first.step(mixed).loss == pytest.approx(alone, rel=1e-6)
    assert first.step(replace(mixed, labels=0 * clicks.labels)).loss == 0


def test_it_finds_more_of_held_out_clicks_than_popularity() -> None:
    config = TwoTowerConfig(
        user_slots=("user",),
        item_slots=("item",),
        hidden=(16,),
        vector_dim=8,
        embedding_dim=8,
        temperature=0.2,
        init_scale=0.1,
        lr=1e-2,
    )
    clicks, held_out = tastes(8_000, 1), tastes(2_000, 2)
    made = trained(config, [clicks.slice(i, i + 256) for i in range(0, 8_000, 256)] * 4)
    predictor = predictor_of(made)
    users, _ = vectors(predictor, held_out)
    _, first = np.unique(clicks.items, return_index=True)
    _, items = vectors(predictor, clicks.take(first))
    counts = np.bincount(clicks.items.astype(int))
    assert recall(users @ items.T, clicks.items[first], held_out.items) > 0.05 + recall(
        np.tile(counts[counts > 0], (2_000, 1)), clicks.items[first], held_out.items
    )


def recall(scores: np.ndarray, items: np.ndarray, clicked: np.ndarray, k: int = 20) -> float:
    """Return the share of clicked items among the k of the highest scores."""
    best = items[np.argpartition(-scores, k, axis=1)[:, :k]]
    return float((best == clicked[:, None]).any(1).mean())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"user_slots": ()}, "needs user_slots"),
        ({"item_slots": ()}, "needs item_slots"),
        ({"item_slots": ("item", "user")}, r"both name \['user'\]"),
        ({"user_dense": ("price",)}, r"both name \['price'\]"),
        ({"item_dense": ("prize",)}, "'prize' is no dense column.*price"),
        ({"item_slots": ("itme",)}, "'itme' is no slot.*item"),
        ({"vector_dim": 0}, "vector_dim must be at least 1"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"frequency_cells": 5}, "power of 2, got 5"),
        ({"frequency_rate": 2.0}, "frequency_rate must be"),
        ({"deep_slots": ("user",)}, "leave deep_slots out"),
    ],
)
def test_what_does_not_fit_is_named(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TwoTower(TwoTowerConfig(**{**vars(CONFIG), **knobs}), Columns.of(example_batch(4)))
