"""Functions whose minimum is known, and functions that have none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.train.solvers.conftest import FunctionLoss, settings
from weiml.errors import DataError, SolverError
from weiml.train.solvers import Iteration, Minimiser, SolverVectors, StopReason, methods
from weiml.train.solvers.config import SearchConfig
from weiml.train.solvers.line_search import Along, Point, strong_wolfe

VectorsOf = Callable[..., SolverVectors]
SCALES = np.geomspace(0.1, 100, 20)
CENTRE = np.linspace(-2, 2, 20)


def bowl(x: np.ndarray) -> tuple[float, np.ndarray]:
    away = x - CENTRE
    return float(SCALES @ away**2 / 2), SCALES * away


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    a, b = 1 - x[:-1], x[1:] - x[:-1] ** 2
    gradient = np.zeros_like(x)
    gradient[:-1] = -2 * a - 400 * x[:-1] * b
    gradient[1:] += 200 * b
    return float(a @ a + 100 * b @ b), gradient


def test_a_quadratic_bowl(vectors_of: VectorsOf) -> None:
    vectors = vectors_of(np.zeros(20))
    told: list[Iteration] = []
    reason = Minimiser(vectors, FunctionLoss(vectors, bowl), settings(l2=0.0)).run(told.append)
    assert reason.converged
    np.testing.assert_allclose(vectors.pull("w"), CENTRE, rtol=1e-4, atol=1e-6)
    assert [iteration.iteration for iteration in told] == list(range(len(told)))
    objectives = [iteration.objective for iteration in told]
    assert objectives == sorted(objectives, reverse=True)
    assert told[0].objective == pytest.approx(bowl(np.zeros(20))[0])
    assert told[-1].non_zeros == 20


def test_l2_pulls_a_bowl_towards_zero(vectors_of: VectorsOf) -> None:
    vectors = vectors_of(np.zeros(20))
    Minimiser(vectors, FunctionLoss(vectors, bowl), settings(l2=3.0)).run()
    expected = SCALES * CENTRE / (SCALES + 3)
    np.testing.assert_allclose(vectors.pull("w"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("start", [0.0, 5.0])
def test_l1_on_a_bowl_is_a_soft_threshold(vectors_of: VectorsOf, start: float) -> None:
    vectors = vectors_of(np.full(20, start))
    scales = np.ones(20)
    scales[3] = 0  # free of the penalty
    vectors.assign(scales, "scales")
    reason = Minimiser(vectors, FunctionLoss(vectors, bowl), settings(l1=0.5, l2=0.0)).run()
    shrunk = np.maximum(np.abs(CENTRE) - 0.5 * scales / SCALES, 0) * np.sign(CENTRE)
    assert reason.converged
    np.testing.assert_allclose(vectors.pull("w"), shrunk, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(vectors.pull("w") == 0, shrunk == 0)


def test_rosenbrocks_valley(vectors_of: VectorsOf) -> None:
    vectors = vectors_of(np.full(8, -1.2))
    loss = FunctionLoss(vectors, rosenbrock)
    stop = {"gradient_tolerance": 1e-8, "objective_tolerance": 0.0}
    reason = Minimiser(vectors, loss, settings(l2=0.0, stop=stop)).run()
    assert reason.converged
    np.testing.assert_allclose(vectors.pull("w"), np.ones(8), atol=1e-4)
    assert len(loss.points) < 200


def test_every_accepted_step_satisfies_the_strong_wolfe_conditions(
    vectors_of: VectorsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[Point, Point]] = []

    def watched(along: Along, start: Point, first: float, config: SearchConfig) -> Point | None:
        found = strong_wolfe(along, start, first, config)
        if found is not None:
            steps.append((start, found))
        return found

    monkeypatch.setattr(methods, "strong_wolfe", watched)
    vectors = vectors_of(np.full(8, -1.2))
    loss = FunctionLoss(vectors, rosenbrock)
    config = settings(l2=0.0, search={"curvature": 0.3})
    Minimiser(vectors, loss, config).run()
    assert len(steps) > 10
    for start, found in steps:
        assert found.value <= start.value + 1e-4 * found.step * start.slope
        assert abs(found.slope) <= 0.3 * abs(start.slope)


def test_without_tolerances_it_goes_as_far_as_float32_can(vectors_of: VectorsOf) -> None:
    vectors = vectors_of(np.zeros(20))
    stop = {"gradient_tolerance": 0.0, "objective_tolerance": 0.0, "max_iterations": 5000}

    def raised(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bowl(x)
        return value + 100, gradient

    loss = FunctionLoss(vectors, raised)
    reason = Minimiser(vectors, loss, settings(l2=0.0, stop=stop)).run()
    assert reason in (StopReason.PRECISION, StopReason.GRADIENT)
    np.testing.assert_allclose(vectors.pull("w"), CENTRE, rtol=1e-5, atol=1e-6)


def test_iterations_run_out(vectors_of: VectorsOf) -> None:
    vectors = vectors_of(np.full(8, -1.2))
    loss = FunctionLoss(vectors, rosenbrock)
    reason = Minimiser(vectors, loss, settings(stop={"max_iterations": 3})).run()
    assert reason is StopReason.ITERATIONS
    assert not reason.converged


@pytest.mark.parametrize("l1", [0.0, 0.5])
def test_a_gradient_that_lies_is_told(vectors_of: VectorsOf, l1: float) -> None:
    vectors = vectors_of(np.zeros(20))

    def lying(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bowl(x)
        return value, -gradient

    with pytest.raises(SolverError, match="iteration 1 found no step in search.max_evaluations"):
        Minimiser(vectors, FunctionLoss(vectors, lying), settings(l1=l1, l2=0.0)).run()


@pytest.mark.parametrize("wrong", ["value", "gradient"])
def test_a_start_that_is_not_finite_is_told(vectors_of: VectorsOf, wrong: str) -> None:
    vectors = vectors_of(np.zeros(20))

    def broken(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bowl(x)
        return (np.inf, gradient) if wrong == "value" else (value, gradient * np.nan)

    with pytest.raises(DataError, match="where the solver starts"):
        Minimiser(vectors, FunctionLoss(vectors, broken), settings()).run()


def test_values_that_overflow_on_the_way_are_stepped_back_from(vectors_of: VectorsOf) -> None:
    vectors = vectors_of(np.full(20, 1.0))

    def walled(x: np.ndarray) -> tuple[float, np.ndarray]:
        if (np.abs(x) > 1.5).any():
            return np.inf, np.full(20, np.nan)
        value, gradient = bowl(2 * x)
        return value, 2 * gradient

    reason = Minimiser(vectors, FunctionLoss(vectors, walled), settings(l2=0.0)).run()
    assert reason.converged
    np.testing.assert_allclose(vectors.pull("w"), CENTRE / 2, rtol=1e-4, atol=1e-6)
