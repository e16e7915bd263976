"""Metrics of classes equal scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.models import accuracy, class_log_loss, evaluate_classes, top_k_accuracy


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(3, 6))
def test_equal_to_scikit_learn(seed: int, count: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, classes, count), rng.uniform(0.1, 2, count)
    scores = rng.dirichlet(np.ones(classes), count)
    given = {"labels": range(classes), "sample_weight": weights}
    exact = reference.accuracy_score(labels, scores.argmax(1), sample_weight=weights)
    assert accuracy(labels, scores, weights) == pytest.approx(exact, abs=1e-12)
    exact = reference.top_k_accuracy_score(labels, scores, k=2, **given)
    assert top_k_accuracy(labels, scores, 2, weights) == pytest.approx(exact, abs=1e-12)
    exact = reference.log_loss(labels, scores, **given)
    assert class_log_loss(labels, scores, weights) == pytest.approx(exact, rel=1e-9)


def test_equal_scores_are_worth_their_share() -> None:
    scores = np.full((3, 4), 0.25)
    labels = np.array([0, 1, 3])
    assert accuracy(labels, scores) == 0.25
    assert top_k_accuracy(labels, scores, 3) == 0.75
    assert top_k_accuracy(labels, scores, 9) == 1


def test_a_sure_mistake_costs_what_the_dtype_can_say() -> None:
    scores = np.array([[1, 0]], np.float32)
    expected = -np.log(np.finfo(np.float32).eps)
    assert class_log_loss(np.array([1]), scores) == pytest.approx(expected)


def test_missing_labels_are_left_out() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    metrics = evaluate_classes(np.array([0, 0, np.nan]), scores, np.array([3.0, 1, 5]), k=2)
    assert metrics["accuracy"] == 0.75
    assert metrics["top_2_accuracy"] == 1
    assert metrics["examples"] == 2
    nothing = evaluate_classes(np.empty(0), np.empty((0, 3)))
    assert nothing["examples"] == 0
    assert np.isnan(nothing["accuracy"])


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "said"),
    [
        ([0], [0.1, 0.9], None, "as long as the scores"),
        ([0, 1], [[0.1, 0.9]], None, "as long as the scores"),
        ([2], [[0.1, 0.9]], None, "from 0 to 1, got 2"),
        ([0.5], [[0.1, 0.9]], None, "got 0.5"),
        ([0], [[np.nan, 0.9]], None, "finite"),
        ([0], [[0.1, 0.9]], [-1], "weights must not be negative"),
    ],
)
def test_what_does_not_fit_is_told(labels: list[float], scores: list[list[float]],
                                   weights: list[float] | None, said: str) -> None:  # fmt: skip
    with pytest.raises(DataError, match=said):
        accuracy(np.array(labels), np.array(scores), None if weights is None else np.array(weights))
    with pytest.raises(DataError, match="k must be at least 1"):
        top_k_accuracy(np.array([0]), np.ones((1, 2)), 0)
