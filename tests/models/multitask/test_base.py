"""Losses of several tasks: weights, missing labels, the main task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from weiml.errors import DataError
from weiml.models import Columns, SharedBottom, SharedBottomConfig
from weiml.models.checks import Trained, example_batch, trained

CONFIG = SharedBottomConfig(tasks=("click", "buy"), hidden=(8,), tower=(4,), embedding_dim=3)
BATCH = example_batch(50)


def learned(config: SharedBottomConfig, batch: Any) -> tuple[float, np.ndarray]:
    """Return (loss, gradients of embeddings and network) of a first step over a batch."""
    made: Trained = trained(config, [])
    fetch = made.model.fetch(made.client, made.model.prepare(batch))
    loss = made.model.compute(made.client, fetch).loss
    dense = made.model.dense_gradient()
    assert dense is not None
    flat = made.model._learned.flat  # type: ignore[attr-defined]
    return loss, np.concatenate([flat.reshape(-1), dense])


def without(column: int) -> Any:
    labels = BATCH.labels.copy()
    labels[:, column] = np.nan
    return replace(BATCH, labels=labels)


def test_a_task_of_weight_0_is_as_if_its_labels_were_missing() -> None:
    for column, weights in enumerate([(0.0, 1.0), (1.0, 0.0)]):
        loss, gradients = learned(CONFIG, without(column))
        whole, weighted = learned(replace(CONFIG, task_weights=weights), BATCH)
        np.testing.assert_allclose(weighted, gradients, atol=1e-6)
        assert whole > loss  # what is reported counts all


def test_gradients_are_weighted_sums_of_the_tasks() -> None:
    clicks, buys = (learned(CONFIG, without(column))[1] for column in (1, 0))
    _, both = learned(replace(CONFIG, task_weights=(0.25, 3.0)), BATCH)
    np.testing.assert_allclose(both[:-1], 0.25 * clicks[:-1] + 3 * buys[:-1], atol=1e-5)


def test_losses_are_those_of_each_label() -> None:
    losses = [learned(CONFIG, batch)[0] for batch in (BATCH, without(0), without(1))]
    assert losses[0] == pytest.approx(losses[1] + losses[2])


def test_tasks_and_the_main_one() -> None:
    columns = Columns.of(BATCH)
    model = SharedBottom(CONFIG, columns)
    assert (model.tasks, model.main_task, model.label_columns) == (("click", "buy"), 0, (0, 1))
    assert SharedBottom(replace(CONFIG, main_task="buy"), columns).main_task == 1


def test_other_labels_are_refused() -> None:
    with pytest.raises(DataError, match=r"predicts .*'click', 'buy'.* has labels \(50, 1\)"):
        learned(CONFIG, replace(BATCH, labels=BATCH.labels[:, :1]))
