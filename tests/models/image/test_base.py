"""What all models of images share: classes, their loss, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models import CNN, CNNConfig, Columns, build_model
from weiml.models.checks import example_images
from weiml.models.image.base import _softmax_losses
from weiml.ps import EmbeddedParameterServer

SMALL = CNNConfig(
    height=8, width=8, classes=("a", "b", "c"), widths=(4,), kernel=3, hidden=(), dropout=0
)


def made(config: CNNConfig = SMALL, **options: Any) -> CNN:
    model = build_model("cnn", config, Columns.of(example_images(config, 1)), **options)
    assert isinstance(model, CNN)
    return model


def loss_of(model: CNN, batch: Batch) -> float:
    client = EmbeddedParameterServer().client()
    return model.compute(client, model.fetch(client, model.prepare(batch))).loss


def test_the_loss_is_the_cross_entropy_and_its_gradient_the_difference_quotient() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 3, (6, 4)), rng.integers(0, 4, 6)
    weights = rng.uniform(0, 2, 6)

    def loss(x: np.ndarray) -> float:
        shares = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        return float(-np.sum(weights * np.log(shares[np.arange(6), labels])))

    found, gradients = _softmax_losses(
        torch.tensor(logits), torch.tensor(labels), torch.tensor(weights)
    )
    assert found == pytest.approx(loss(logits), rel=1e-12)
    for b, k in np.ndindex(6, 4):
        step = np.zeros((6, 4))
        step[b, k] = 1e-6
        quotient = (loss(logits + step) - loss(logits - step)) / 2e-6
        assert float(gradients[b, k]) == pytest.approx(quotient, abs=1e-7)


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[500.0, -500.0], [0.0, 500.0]])
    loss, gradients = _softmax_losses(logits, torch.tensor([0, 0]), torch.ones(2))
    assert loss == pytest.approx(500)
    np.testing.assert_allclose(gradients, [[0, 0], [-1, 1]])


def test_scores_are_shares_of_the_classes() -> None:
    model, batch = made(), example_images(SMALL, 20)
    logits, scores = model.logits(batch, {}), model.scores(batch, {})
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert model.tasks == ("a", "b", "c")


def test_a_missing_label_teaches_nothing_and_costs_nothing() -> None:
    batch = example_images(SMALL, 20)
    labels = batch.labels.copy()
    labels[5:] = np.nan
    first, second = made(), made()
    known = batch.slice(0, 5)
    loss = loss_of(first, replace(batch, labels=labels))
    assert loss == pytest.approx(loss_of(second, known), rel=1e-5)
    ours, theirs = first.dense_gradient(), second.dense_gradient()
    assert ours is not None
    assert theirs is not None
    np.testing.assert_allclose(ours[:-1], theirs[:-1], atol=1e-5)


def test_moves_and_dropout_are_drawn_per_worker_and_resumed() -> None:
    config = replace(SMALL, shift=2, flip=True, dropout=0.5)
    batch = example_images(config, 32)
    again = [loss_of(made(config, rank=rank), batch) for rank in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    model, other = made(config), made(config, rank=1)
    loss_of(model, batch)
    other.set_worker_state(model.worker_state())
    assert loss_of(other, batch) == loss_of(model, batch)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([[3], [0]], r"from 0 to 2, got \[\[3.0\]\]"),
        ([[0.5], [0]], r"got \[\[0.5\]\]"),
        ([[-1], [0]], r"got \[\[-1.0\]\]"),
        ([[0, 1], [0, 1]], r"one whole number .* got labels \(2, 2\)"),
    ],
)
def test_labels_that_are_no_class_are_told(labels: list[list[float]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        loss_of(made(), replace(example_images(SMALL, 2), labels=np.array(labels, np.float32)))


def test_batches_that_are_no_images_of_the_form_are_told() -> None:
    columns = Columns.of(example_images(SMALL, 1))
    with pytest.raises(ConfigError, match="height = 9.* 72 dense columns, the batches have 64"):
        build_model("cnn", replace(SMALL, height=9), columns)
    with pytest.raises(ConfigError, match=r"slots \('user',\)"):
        build_model("cnn", SMALL, replace(columns, slots=("user",)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height": 0}, "height must be at least 1"),
        ({"mean": (0.1, 0.2)}, "mean must have 1 number or one for each of channels = 1"),
        ({"std": (0.0,)}, "std must be above 0"),
        ({"classes": ("a",)}, "two different names"),
        ({"classes": ("a", "a")}, "two different names"),
        ({"shift": 8}, "shift must be at least 0 and less than the image's sides"),
        ({"lr": 0.0}, "lr must be above 0"),
    ],
)
def test_knobs_out_of_range_are_told(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **change)
