"""Models of classes are evaluated as the metrics say, batch by batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.conftest import make_batch
from weiml.data import write_batches
from weiml.errors import ConfigError
from weiml.models import CNNConfig, Columns, Predictor, build_model, evaluate_classes
from weiml.models.checks import example_images
from weiml.train.evaluate_classes import evaluate_class_model

CONFIG = CNNConfig(height=8, width=8, classes=("a", "b", "c"), widths=(4,), hidden=())


def test_a_data_set_and_a_batch_give_the_same(tmp_path: Path) -> None:
    batch = example_images(CONFIG, 50)
    model = build_model("cnn", CONFIG, Columns.of(batch))
    predictor = Predictor(model, {})
    dataset = write_batches([batch], tmp_path / "set", packed=True)
    metrics, scores = evaluate_class_model(predictor, dataset, batch_size=7)
    np.testing.assert_allclose(scores, model.scores(batch, {}), atol=1e-6)
    assert metrics == evaluate_classes(batch.labels[:, 0], scores, batch.weights)
    same, _ = evaluate_class_model(predictor, batch, batch_size=7)
    assert same == metrics
    nothing, _ = evaluate_class_model(predictor, batch.slice(0, 0))
    assert nothing["examples"] == 0


def test_a_model_of_tasks_is_refused() -> None:
    batch = make_batch(4)
    predictor = Predictor(build_model("lr", {}, Columns.of(batch)), {})
    with pytest.raises(ConfigError, match="'lr' scores tasks .* use evaluate_model"):
        evaluate_class_model(predictor, batch)
