"""The compiled passes against numpy, and against differences of their own values."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.train.solvers.kernels import LOGISTIC, SQUARED_HINGE, loss_pass, square_pass

KINDS = [LOGISTIC, SQUARED_HINGE]


def arrays(rng: np.random.Generator) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return (places, values, starts, dense, labels, weights), and the same as a matrix."""
    starts = np.array([0, 2, 2, 5, 9])
    places = np.array([3, 5, 3, 3, 4, 6, 4, 5, 3], np.int32)  # one stands twice in an example
    values = rng.normal(size=9).astype(np.float32)
    dense = rng.normal(size=(4, 2)).astype(np.float32)
    matrix = np.zeros((4, 7))
    matrix[:, 0] = 1
    matrix[:, 1:3] = dense
    np.add.at(matrix, (np.repeat(np.arange(4), np.diff(starts)), places), values)
    labels = np.array([1, 0, 0, 1], np.float32)
    return (places, values, starts, dense, labels, np.array([1, 2, 0.5, 3], np.float32)), matrix


def value(kind: int, w: np.ndarray, given: tuple[np.ndarray, ...]) -> tuple[float, np.ndarray]:
    gradient = np.zeros(w.size)
    return loss_pass(kind, w, *given, gradient), gradient


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(kind: int, rng: np.random.Generator) -> None:
    given, matrix = arrays(rng)
    labels, weights = given[4].astype(float), given[5].astype(float)
    for scale in (0.1, 3.0):
        w = scale * rng.normal(size=7)
        margins = matrix @ w
        if kind == LOGISTIC:
            losses = np.logaddexp(0, margins) - labels * margins
        else:
            losses = np.maximum(0, 1 - (2 * labels - 1) * margins) ** 2
        found, gradient = value(kind, w, given)
        assert found == pytest.approx(weights @ losses, rel=1e-12)
        for i in range(7):
            step = np.eye(7)[i] * 1e-6
            rise = value(kind, w + step, given)[0] - value(kind, w - step, given)[0]
            assert gradient[i] == pytest.approx(rise / 2e-6, rel=1e-4, abs=1e-7)


def test_missing_values_are_ones(rng: np.random.Generator) -> None:
    given, _ = arrays(rng)
    ones = (given[0], np.ones(9, np.float32), *given[2:])
    w = rng.normal(size=7)
    loss, gradient = value(LOGISTIC, w, (given[0], None, *given[2:]))  # type: ignore[arg-type]
    expected, expected_gradient = value(LOGISTIC, w, ones)
    assert loss == expected
    np.testing.assert_array_equal(gradient, expected_gradient)


def test_squares_of_the_examples_gradients(rng: np.random.Generator) -> None:
    given, _ = arrays(rng)
    w, squares = rng.normal(size=7), np.zeros(7)
    one_place = (given[0][:2], given[1][:2], np.array([0, 2]), *(a[:1] for a in given[3:]))
    square_pass(LOGISTIC, w, *one_place, squares)
    np.testing.assert_allclose(squares, value(LOGISTIC, w, one_place)[1] ** 2)


@pytest.mark.parametrize("margin", [-800.0, 800.0])
def test_far_margins_stay_finite(margin: float) -> None:
    empty = np.empty(0, np.int32)
    one = np.ones(1, np.float32)
    given = (empty, None, np.zeros(2, np.int64), np.empty((1, 0), np.float32), one, one)
    loss, gradient = value(LOGISTIC, np.array([margin]), given)  # type: ignore[arg-type]
    assert loss == max(-margin, 0.0)
    assert gradient[0] == (0.0 if margin > 0 else -1.0)
