"""The metrics of a report: their names, groups or none, missing labels, several tasks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.models.metrics.conftest import made
from weiml.errors import DataError
from weiml.models import metrics
from weiml.models.metrics import TaskMetricsAccumulator

PLAIN = (
    "auc",
    "log_loss",
    "ne",
    "recalibrated_ne",
    "rce",
    "calibration_ratio",
    "ece",
    "ece_equal_mass",
    "positive_rate",
)
GROUPED = ("gauc", "ndcg_at_10", "precision_at_10", "mrr")


def test_everything_that_compares_models_is_there(rng: np.random.Generator) -> None:
    labels, scores, groups, weights = made(rng)
    scores = scores.astype(np.float32)
    values = metrics.evaluate_scores(labels[:, None], scores, groups, weights)
    wanted = {"examples", *PLAIN, *GROUPED, *(f"{name}_se" for name in (*PLAIN, *GROUPED))}
    assert set(values) == wanted
    assert values["auc"] == metrics.auc(labels, scores, weights)
    assert values["gauc"] == metrics.gauc(labels, scores, groups, weights)
    assert values["ndcg_at_10"] == metrics.ndcg_at_k(labels, scores, groups)
    assert values["precision_at_10"] == metrics.precision_at_k(labels, scores, groups)
    assert values["mrr"] == metrics.mrr(labels, scores, groups)
    assert values["log_loss"] == metrics.log_loss(labels, scores, weights)
    assert values["ne"] == metrics.normalized_entropy(labels, scores, weights)
    assert values["rce"] == metrics.relative_cross_entropy(labels, scores, weights)
    assert values["recalibrated_ne"] == metrics.recalibrated_ne(labels, scores, weights)
    assert values["ece"] == metrics.expected_calibration_error(labels, scores, weights)
    assert values["examples"] == 300
    assert values["positive_rate"] == pytest.approx(labels.mean())
    assert all(values[f"{name}_se"] > 0 for name in (*PLAIN, *GROUPED))
    few = metrics.evaluate_scores(labels, scores, groups, weights, k=3, standard_errors=False)
    assert few["ndcg_at_3"] == metrics.ndcg_at_k(labels, scores, groups, 3)
    assert not any(name.endswith("_se") for name in few)


def test_without_groups_there_are_no_metrics_of_groups(rng: np.random.Generator) -> None:
    labels, scores, groups, _ = made(rng)
    for none in (None, np.zeros(300, np.uint64), np.arange(300)):
        assert set(GROUPED).isdisjoint(metrics.evaluate_scores(labels, scores, none)), none
    for some in (groups, np.full(300, 7)):
        assert set(GROUPED) < set(metrics.evaluate_scores(labels, scores, some))


def test_missing_labels_are_left_out(rng: np.random.Generator) -> None:
    labels, scores, groups, weights = made(rng)
    gone = rng.random(300) < 0.3
    expected = metrics.evaluate_scores(labels[~gone], scores[~gone], groups[~gone], weights[~gone])
    labels[gone] = math.nan
    assert metrics.evaluate_scores(labels, scores, groups, weights) == expected


def test_weights_of_nothing_define_nothing() -> None:
    labels, scores, none = np.array([1, 0]), np.array([0.7, 0.2]), np.zeros(2)
    values = metrics.evaluate_scores(labels, scores, np.ones(2, int), none)
    for name in ("auc", "gauc", "log_loss", "calibration_ratio", "ne", "ece", "recalibrated_ne"):
        assert math.isnan(values[name]), name
        assert math.isnan(values[f"{name}_se"]), name


def test_each_task_is_evaluated_by_itself(rng: np.random.Generator) -> None:
    labels, scores, groups, weights = made(rng)
    both = np.stack([labels, 1 - labels], axis=1).astype(np.float32)
    both[rng.random(300) < 0.5, 1] = np.nan
    predicted = np.stack([scores, scores**2], axis=1)
    own = np.stack([weights, weights[::-1]], axis=1)
    found = metrics.evaluate_tasks(both, predicted, groups, own, tasks=["click", "buy"])
    for t, task in enumerate(("click", "buy")):
        assert found[task] == metrics.evaluate_scores(
            both[:, t], predicted[:, t], groups, own[:, t]
        )
    shared = metrics.evaluate_tasks(both, predicted, groups, weights, tasks=["click", "buy"])
    assert shared["click"] == found["click"]
    assert shared["buy"] != found["buy"]


def test_tasks_merge(rng: np.random.Generator) -> None:
    labels, scores, _, _ = made(rng)
    both, predicted = np.stack([labels, 1 - labels], 1), np.stack([scores, 1 - scores], 1)
    parts = [TaskMetricsAccumulator(["a", "b"], k=3) for _ in range(2)]
    parts[0].add(both[:100], predicted[:100])
    parts[1].add(both[100:], predicted[100:])
    parts[0].merge(parts[1])
    expected = metrics.evaluate_tasks(both, predicted, tasks=["a", "b"], k=3)
    assert parts[0].result()["b"]["auc"] == expected["b"]["auc"]
    assert parts[0].result(standard_errors=False)["a"].keys() < expected["a"].keys()


def test_wrong_tasks_are_named() -> None:
    with pytest.raises(DataError, match="distinct names"):
        TaskMetricsAccumulator(["a", "a"])
    two = TaskMetricsAccumulator(["a", "b"])
    with pytest.raises(DataError, match=r"\(n, 2\) for the tasks \['a', 'b'\], got \(3,\)"):
        two.add(np.zeros(3), np.zeros((3, 2)))
    with pytest.raises(DataError, match="do not merge"):
        two.merge(TaskMetricsAccumulator(["a", "c"]))
