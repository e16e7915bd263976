"""Platt scaling against scikit-learn, and what smoothing is for."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import _SigmoidCalibration

from tests.models.calibration.conftest import Examples
from weiml.models import calibration_ratio
from weiml.models.calibration import FittedScaling, Platt
from weiml.models.calibration.logistic import logit


def test_equal_to_the_reference(examples: Examples) -> None:
    scores, labels, weights = (column[:3000] for column in examples)
    fitted = Platt().fit(scores, labels, weights)
    reference = _SigmoidCalibration().fit(logit(scores), labels, weights)
    assert isinstance(fitted, FittedScaling)
    assert fitted.slope == pytest.approx(-reference.a_, rel=1e-3)
    assert fitted.intercept == pytest.approx(-reference.b_, abs=1e-3)


def test_undoes_what_was_done_to_the_scores(examples: Examples) -> None:
    fitted = Platt().fit(*examples)
    assert isinstance(fitted, FittedScaling)
    assert fitted.slope == pytest.approx(1 / 1.7, abs=0.03)
    assert fitted.intercept == pytest.approx(-1 / 1.7, abs=0.05)


def test_without_smoothing_the_mean_is_exact(examples: Examples) -> None:
    fitted = Platt(smoothing=False).fit(*examples)
    ratio = calibration_ratio(examples.labels, fitted(examples.scores), examples.weights)
    assert ratio == pytest.approx(1, abs=1e-6)


def test_smoothing_keeps_few_examples_from_certainty() -> None:
    scores, labels = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0, 0, 1, 1])
    calibrated = Platt().fit(scores, labels)(scores)
    assert 0.2 < calibrated[0] < calibrated[3] < 0.8
    assert Platt(smoothing=False).fit(scores, labels)(scores)[3] > 0.999


def test_a_falling_order_is_turned_round(examples: Examples) -> None:
    fitted = Platt().fit(1 - examples.scores, examples.labels)
    assert isinstance(fitted, FittedScaling)
    assert fitted.slope < 0
