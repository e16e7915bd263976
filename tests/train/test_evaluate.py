"""Evaluation scores by the predictor, in pieces of any size."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.conftest import Sets
from weiml.models import auc, evaluate_scores
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
