"""Log-loss against scikit-learn; NE, its standard error and recalibration against plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import isotonic, linear_model
from sklearn import metrics as reference

from tests.models.metrics.conftest import Example, columns, delta_error, examples, made
from weiml.errors import DataError
from weiml.models import metrics


@given(examples)
@settings(deadline=None, max_examples=80)
def test_log_loss_equals_the_reference_for_both_precisions(rows: list[Example]) -> None:
    labels, scores, _, weights = columns(rows)
    for dtype in (np.float32, np.float64):
        s = scores.astype(dtype)
        expected = reference.log_loss(labels, s, sample_weight=weights, labels=[0, 1])
        assert metrics.log_loss(labels, s, weights) == pytest.approx(expected, rel=1e-6)
    expected = reference.log_loss(labels, scores, sample_weight=weights, labels=[0, 1])
    assert metrics.log_loss(labels, scores, weights) == pytest.approx(expected, abs=1e-9)


@given(examples)
@settings(deadline=None, max_examples=60)
def test_normalized_entropy_is_a_share_of_the_base_rate_s(rows: list[Example]) -> None:
    labels, scores, _, weights = columns(rows)
    ne = metrics.normalized_entropy(labels, scores, weights)
    if len(np.unique(labels)) < 2:
        assert math.isnan(ne)
        return
    base = np.full(len(labels), np.average(labels, weights=weights))
    below = reference.log_loss(labels, base, sample_weight=weights)
    above = reference.log_loss(labels, scores, sample_weight=weights)
    assert ne == pytest.approx(above / below, rel=1e-9)
    rce = metrics.relative_cross_entropy(labels, scores, weights)
    assert rce == pytest.approx((1 - above / below) * 100, abs=1e-7)
    assert metrics.normalized_entropy(labels, base, weights) == pytest.approx(1)


def test_standard_errors_follow_the_delta_method(rng: np.random.Generator) -> None:
    labels, scores, _, weights = made(rng)
    losses = -np.where(labels == 1, np.log(scores), np.log1p(-scores))
    assert metrics.log_loss_estimate(labels, scores) == pytest.approx(
        (losses.mean(), losses.std(ddof=1) / math.sqrt(len(losses))), rel=1e-9
    )
    for estimate, metric in (
        (metrics.log_loss_estimate, metrics.log_loss),
        (metrics.normalized_entropy_estimate, metrics.normalized_entropy),
        (metrics.recalibrated_ne_estimate, metrics.recalibrated_ne),
    ):
        error = delta_error(lambda w, metric=metric: metric(labels, scores, w), weights)  # type: ignore[misc]
        assert estimate(labels, scores, weights).standard_error == pytest.approx(error, rel=1e-5)


def test_the_error_of_ne_is_what_new_samples_vary_by(rng: np.random.Generator) -> None:
    found = []
    for _ in range(300):
        scores = rng.beta(1, 6, 500)
        labels = rng.random(500) < scores
        found.append(metrics.normalized_entropy_estimate(labels, scores))
    values, errors = np.array(found).T
    assert values.std() == pytest.approx(errors.mean(), rel=0.15)


def test_affine_recalibration_is_logistic_regression_on_logits(rng: np.random.Generator) -> None:
    labels, scores, _, weights = made(rng)
    x = np.log(scores / (1 - scores))[:, None]
    fitted = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    p = fitted.fit(x, labels, sample_weight=weights).predict_proba(x)[:, 1]
    expected = metrics.normalized_entropy(labels, p, weights)
    found = metrics.recalibrated_ne(labels, scores, weights)
    assert found == pytest.approx(expected, abs=1e-8)
    assert found < metrics.normalized_entropy(labels, scores, weights)


def test_isotonic_recalibration_is_the_best_monotone_map(rng: np.random.Generator) -> None:
    labels, scores, _, weights = made(rng)
    fitted = isotonic.IsotonicRegression().fit(scores, labels, sample_weight=weights)
    p = fitted.predict(scores)
    expected = metrics.normalized_entropy(labels, p, weights)
    found = metrics.recalibrated_ne(labels, scores, weights, "isotonic")
    assert found == pytest.approx(expected, abs=1e-9)
    assert found <= metrics.recalibrated_ne(labels, scores, weights)


def test_recalibration_forgives_scale_but_not_order(rng: np.random.Generator) -> None:
    p = rng.beta(1, 3, 20_000)
    labels = rng.random(20_000) < p
    distorted = 1 / (1 + np.exp(1.5 - 2 * np.log(p / (1 - p))))
    kept = metrics.normalized_entropy(labels, p)
    assert metrics.normalized_entropy(labels, distorted) > kept + 0.05
    for method in ("affine", "isotonic"):
        found = metrics.recalibrated_ne(labels, distorted, method=method)
        assert found == pytest.approx(kept, abs=0.005)
        assert metrics.recalibrated_ne(labels, 1 - p, method=method) == pytest.approx(1, abs=1e-6)
    order = np.array([0.1, 0.2, 0.6, 0.7])
    assert metrics.recalibrated_ne(np.array([0, 0, 1, 1]), order) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], "equally long"),
        ([0, 1], [0.5, math.nan], "finite, got nan at position 1"),
        ([0, 2], [0.5, 0.5], "labels must lie in [0, 1], got 2.0 at position 1"),
        ([0, math.nan], [0.5, 0.5], "labels must lie"),
        ([0, 1], [0.5, 1.5], "probabilities"),
    ],
)
def test_bad_input_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        metrics.log_loss(np.array(labels), np.array(scores))
