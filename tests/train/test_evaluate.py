"""Evaluation scores by the predictor, in pieces of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train.conftest import Sets
from weiml.data import write_batches
from weiml.errors import DataError
from weiml.models import DNNConfig, Predictor, SharedBottomConfig, auc, evaluate_scores
from weiml.models.checks import example_batch, trained
from weiml.models.registry import ModelConfig
from weiml.ps import Cut
from weiml.train import TrainConfig, Trainer, evaluate_model, score_dataset


def test_metrics_and_scores_of_a_data_set(sets: Sets) -> None:
    predictor = Trainer(TrainConfig(epochs=1)).fit(sets.train).predictor()
    metrics, scores = evaluate_model(predictor, sets.validation, batch_size=77)
    batch = sets.validation.read()
    np.testing.assert_allclose(scores, predictor.score(batch), atol=1e-6)
    expected = evaluate_scores(batch.labels, scores, batch.groups, batch.weights)
    assert metrics == expected
    assert metrics["auc"] == auc(batch.labels, scores, batch.weights)
    again, _ = evaluate_model(predictor, batch)
    assert again == pytest.approx(metrics, rel=1e-6)


def test_no_examples_give_no_scores(sets: Sets) -> None:
    predictor = Trainer(TrainConfig(epochs=1)).fit(sets.train).predictor()
    assert score_dataset(predictor, sets.train.read().slice(0, 0)).shape == (0,)


def predictor_of(config: ModelConfig) -> Predictor:
    made = trained(config, [example_batch(64, seed) for seed in range(3)])
    return Predictor(made.model, made.server.client().delta(Cut.zero()).tables)


def test_every_task_is_told_under_its_name(tmp_path: Path) -> None:
    config = SharedBottomConfig(tasks=("click", "buy"), main_task="buy", hidden=(8,), tower=())
    predictor, batch = predictor_of(config), example_batch(300, 9)
    metrics, scores = evaluate_model(predictor, write_batches([batch], tmp_path / "d"))
    tasks = predictor.score_tasks(batch)
    np.testing.assert_allclose(scores, tasks[:, 1], atol=1e-6)
    for column, task in enumerate(("click", "buy")):
        own = evaluate_scores(
            batch.labels[:, column], tasks[:, column], batch.groups, batch.weights
        )
        found = {name: metrics[f"{task}_{name}"] for name in own}
        assert found == pytest.approx(own, rel=1e-5)
    assert metrics["auc"] == metrics["buy_auc"] != metrics["click_auc"]
    assert len(metrics) == 3 * len(own)


def test_a_missing_label_leaves_its_task_out() -> None:
    config = SharedBottomConfig(tasks=("click", "buy"), hidden=(8,), tower=())
    predictor, batch = predictor_of(config), example_batch(300, 9)
    labels = batch.labels.copy()
    labels[100:, 1] = np.nan
    metrics, _ = evaluate_model(predictor, replace(batch, labels=labels))
    some, _ = evaluate_model(predictor, batch.slice(0, 100))
    assert metrics["buy_auc"] == pytest.approx(some["buy_auc"])
    assert metrics["buy_examples"] == 100
    assert metrics["click_examples"] == metrics["examples"] == 300


def test_a_model_of_one_task_is_compared_with_the_label_it_learns() -> None:
    batch = example_batch(300, 9)
    predictor = predictor_of(DNNConfig(task=1, hidden=(8,)))
    metrics, scores = evaluate_model(predictor, batch)
    assert metrics["auc"] == auc(batch.labels[:, 1], scores, batch.weights)
    assert "label_auc" not in metrics
    with pytest.raises(DataError, match=r"label columns \(1,\), the data has 1"):
        evaluate_model(predictor, replace(batch, labels=batch.labels[:, :1]))
    assert np.isnan(evaluate_model(predictor, batch.slice(0, 0))[0]["auc"])
