"""Newton's method against scikit-learn, and where there is no best fit or several."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from weiml.models.calibration.logistic import fit_logistic, logit, softplus, squash


def test_equal_to_the_reference(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 500))
    labels = (rng.random(500) < squash(2 * x[0] - x[1] + 0.5)).astype(float)
    weights = rng.uniform(0.1, 3, 500)
    columns = np.vstack([x, np.ones(500)])
    theta = fit_logistic(columns, weights * labels, weights * (1 - labels), np.zeros(3))
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    model.fit(x.T, labels, sample_weight=weights)
    np.testing.assert_allclose(theta, [*model.coef_[0], model.intercept_[0]], atol=1e-6)


def test_offsets_are_added(rng: np.random.Generator) -> None:
    rates = squash(rng.standard_normal(100))
    one = np.ones((1, 100))
    theta = fit_logistic(one, rates, 1 - rates, np.zeros(1), logit(rates) - 3)
    assert theta[0] == pytest.approx(3, abs=1e-9)


def test_from_afar_and_without_error() -> None:
    x = np.array([[-2.0, -1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    labels = np.array([0.0, 1.0, 0.0, 1.0])
    near = fit_logistic(x, labels, 1 - labels, np.zeros(2))
    far = fit_logistic(x, labels, 1 - labels, np.array([90.0, -70.0]))
    np.testing.assert_allclose(far, near, atol=1e-9)
    parted = np.array([0.0, 0.0, 1.0, 1.0])
    theta = fit_logistic(x, parted, 1 - parted, np.zeros(2))
    assert np.isfinite(theta).all()
    np.testing.assert_allclose(squash(theta @ x), parted, atol=1e-6)
    twins = np.ones((2, 4))
    theta = fit_logistic(twins, parted, np.full(4, 2.0), np.zeros(2))
    assert squash(theta @ twins)[0] == pytest.approx(2 / 10)


def test_functions_do_not_overflow() -> None:
    x = np.array([-1e4, -30.0, 0.0, 30.0, 1e4])
    np.testing.assert_allclose(squash(x), [0, np.exp(-30), 0.5, 1, 1], atol=1e-15)
    np.testing.assert_allclose(softplus(x), [0, np.exp(-30), np.log(2), 30, 1e4], rtol=1e-12)
    p = np.array([1e-9, 0.3, 0.999])
    np.testing.assert_allclose(squash(logit(p)), p, rtol=1e-12)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
