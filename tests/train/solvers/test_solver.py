"""The optimum of scikit-learn, the same bits on any servers, runs that go on, models that serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tests.models.conftest import make_batch
from tests.train.solvers.conftest import Problem, dense_batch, settings
from weiml.data import write_batches
from weiml.errors import ConfigError, DataError
from weiml.models import Predictor
from weiml.ps import SGD, EmbeddedParameterServer, TableConfig
from weiml.train.solvers import BatchSolver, Iteration, SolverResult, StopReason


def fit(problem: Problem, **values: Any) -> SolverResult:
    return BatchSolver(settings(**values)).fit(problem.dataset)


def sklearn_optimum(problem: Problem, l1: float, l2: float) -> np.ndarray:
    """Return (bias, weights) of scikit-learn, float64."""
    model = LogisticRegression(
        C=1 / (l1 + l2),
        l1_ratio=l1 / (l1 + l2),
        solver="saga" if l1 else "lbfgs",
        tol=1e-10 if l1 else 1e-12,
        max_iter=20_000,
    )
    model.fit(problem.x, problem.y, problem.example_weights)
    return np.append(model.intercept_, model.coef_[0])


def best_objective(problem: Problem, result: SolverResult, optimum: np.ndarray) -> float:
    return problem.objective(replace(result, weights=optimum))


@pytest.mark.parametrize("name", ["cancer", "mixed"])
@pytest.mark.parametrize("l2", [1.0, 0.1])
def test_lbfgs_reaches_scikit_learns_optimum(
    name: str, l2: float, request: pytest.FixtureRequest
) -> None:
    problem: Problem = request.getfixturevalue(name)
    result = fit(problem, l2=l2)
    best = best_objective(problem, result, sklearn_optimum(problem, 0.0, l2))
    assert result.reason.converged
    assert problem.objective(result) <= best * (1 + 1e-9)
    assert result.objective == pytest.approx(problem.objective(result), rel=1e-12)


@pytest.mark.parametrize("name", ["cancer", "mixed"])
def test_owl_qn_reaches_scikit_learns_optimum_and_support(
    name: str, request: pytest.FixtureRequest
) -> None:
    problem: Problem = request.getfixturevalue(name)
    result = fit(problem, l1=3.0, l2=0.5)
    optimum = sklearn_optimum(problem, 3.0, 0.5)
    assert problem.objective(result) <= best_objective(problem, result, optimum) * (1 + 1e-9)
    np.testing.assert_array_equal(result.weights != 0, optimum != 0)
    assert 0 < np.count_nonzero(result.weights) < len(result.weights)


def test_squared_hinge_reaches_scikit_learns_optimum(cancer: Problem) -> None:
    result = fit(cancer, loss="squared_hinge", penalise_bias=True)
    sides = 2 * cancer.y - 1

    def objective(w: np.ndarray) -> float:
        short = np.maximum(0, 1 - sides * (cancer.x @ w[1:] + w[0]))
        return float(short @ short + w @ w / 2)

    other = LinearSVC(C=1.0, tol=1e-10, max_iter=200_000).fit(cancer.x, cancer.y)
    best = objective(np.append(other.intercept_, other.coef_[0]))
    assert objective(result.weights.astype(np.float64)) <= best * (1 + 1e-9)


def test_more_shards_change_no_bit(mixed: Problem) -> None:
    for penalties in ({"l2": 1.0}, {"l1": 2.0, "l2": 0.1}):
        one, four = fit(mixed, **penalties), fit(mixed, **penalties, num_shards=4)
        assert one.iterations == four.iterations
        np.testing.assert_array_equal(one.weights, four.weights)


def test_workers_take_every_example(mixed: Problem) -> None:
    one, three = fit(mixed), fit(mixed, num_workers=3)  # 1501 examples: one is left over
    assert three.iterations[0].objective == pytest.approx(one.iterations[0].objective, rel=1e-13)
    assert three.objective == pytest.approx(one.objective, rel=1e-10)


def test_two_shards_and_workers_on_ray_equal_two_logical_workers(
    mixed: Problem, ray_session: None
) -> None:
    penalties = {"l1": 2.0, "l2": 0.1}
    here = fit(mixed, **penalties, num_workers=2)
    there = fit(mixed, **penalties, num_workers=2, num_shards=2, transport="ray")
    assert here.iterations == there.iterations
    np.testing.assert_array_equal(here.weights, there.weights)
    np.testing.assert_array_equal(here.squares, there.squares)


class InterruptError(Exception):
    """What ends a run from outside."""


@pytest.mark.parametrize("l1", [0.0, 2.0])
def test_a_run_goes_on_with_the_same_bits(mixed: Problem, tmp_path: Path, l1: float) -> None:
    values: dict[str, Any] = {"l1": l1, "l2": 0.1, "save_every": 4, "history": 3}
    whole = fit(mixed, **values)
    assert whole.iterations[-1].iteration > 14

    def interrupt(iteration: Iteration) -> None:
        if iteration.iteration == 14:
            raise InterruptError

    solver = BatchSolver(settings(**values))
    with pytest.raises(InterruptError):
        solver.fit(mixed.dataset, progress=interrupt, state_folder=tmp_path / "state")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["iteration-00000012"]
    seen: list[Iteration] = []
    rescaled = BatchSolver(settings(**values, num_shards=3))
    result = rescaled.fit(mixed.dataset, progress=seen.append, state_folder=tmp_path / "state")
    assert seen == whole.iterations[13:]
    assert result.iterations == whole.iterations
    assert result.reason is whole.reason
    np.testing.assert_array_equal(result.weights, whole.weights)


def test_a_finished_run_goes_on_with_other_tolerances(mixed: Problem, tmp_path: Path) -> None:
    short = BatchSolver(settings(stop={"max_iterations": 5}))
    first = short.fit(mixed.dataset, state_folder=tmp_path / "state")
    assert first.reason is StopReason.ITERATIONS
    result = BatchSolver(settings()).fit(mixed.dataset, state_folder=tmp_path / "state")
    assert result.iterations == fit(mixed).iterations


def test_the_state_of_another_run_is_refused(
    mixed: Problem, cancer: Problem, tmp_path: Path
) -> None:
    few = {"stop": {"max_iterations": 2}}
    BatchSolver(settings(**few)).fit(mixed.dataset, state_folder=tmp_path)
    with pytest.raises(ConfigError, match=r"another run: l2 was 1.0 and is 2.0; give a new folder"):
        BatchSolver(settings(l2=2.0)).fit(mixed.dataset, state_folder=tmp_path)
    with pytest.raises(ConfigError, match="examples was 1501 and is 569"):
        BatchSolver(settings()).fit(cancer.dataset, state_folder=tmp_path)
    with EmbeddedParameterServer() as server:
        server.create_table(TableConfig("other", optimizer=SGD(lr=1.0)))
        with pytest.raises(ConfigError, match="has tables \\['other'\\]"):
            BatchSolver(settings(**few), server=server).fit(mixed.dataset, state_folder=tmp_path)
    (tmp_path / "iteration-00000002" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json is damaged"):
        BatchSolver(settings(**few)).fit(mixed.dataset, state_folder=tmp_path)


def test_the_model_serves_what_was_found(mixed: Problem, tmp_path: Path) -> None:
    lr = {"optimizer": {"l1": 0.5, "l2": 0.3}}
    result = fit(mixed, l1=2.0, lr=lr)
    saved = result.save(tmp_path / "model", about={"name": "sparse"})
    batch = mixed.dataset.read()
    margins = mixed.x @ result.weights[1:].astype(np.float64) + result.weights[0]
    expected = 1 / (1 + np.exp(-margins))
    for predictor in (result.predictor(), Predictor.load(saved.path)):
        np.testing.assert_allclose(predictor.score(batch), expected, rtol=0, atol=1e-6)
    keys, _ = saved.tables()["linear"]
    assert len(keys) == np.count_nonzero(result.weights)
    about = saved.manifest["about"]
    assert about["name"] == "sparse"
    assert about["objective"] == result.objective
    with pytest.raises(DataError, match="is not empty"):
        result.save(tmp_path / "model")


def test_products_of_slots_have_weights_too(mixed: Problem, tmp_path: Path) -> None:
    lr = {"crosses": [{"name": "user_x_item", "of": ["user", "item"]}]}
    plain, crossed = fit(mixed), fit(mixed, lr=lr)
    assert len(crossed.keys) > 2 * len(plain.keys)
    assert crossed.objective < plain.objective
    batch = mixed.dataset.read()
    scores = Predictor.load(crossed.save(tmp_path / "model").path).score(batch)
    np.testing.assert_allclose(scores, crossed.predictor().score(batch), atol=1e-6)
    assert (
        np.corrcoef(scores, mixed.y)[0, 1]
        > np.corrcoef(plain.predictor().score(batch), mixed.y)[0, 1]
    )


def test_a_server_that_was_passed_stays_open_and_clean(cancer: Problem) -> None:
    with EmbeddedParameterServer(2) as server:
        first = BatchSolver(settings(), server=server).fit(cancer.dataset)
        again = BatchSolver(settings(), server=server).fit(cancer.dataset)
        assert server.status()["vectors"] == {}
    assert first.iterations == again.iterations


def test_a_bias_is_penalised_only_where_asked(cancer: Problem) -> None:
    free, held = fit(cancer, l2=50.0), fit(cancer, l2=50.0, penalise_bias=True)
    assert abs(held.weights[0]) < abs(free.weights[0])
    sparse = fit(cancer, l1=1e6, l2=0.0)  # nothing but the bias is left
    assert np.flatnonzero(sparse.weights).tolist() == [0]
    positive = cancer.y.mean()
    assert sparse.weights[0] == pytest.approx(np.log(positive / (1 - positive)), rel=1e-4)


@pytest.mark.parametrize(
    ("label", "loss", "message"),
    [(2.0, "logistic", r"in \[0, 1\]"), (0.5, "squared_hinge", "0 or 1"), (np.nan, "logistic", "")],
)
def test_labels_that_do_not_fit_are_told(
    label: float, loss: str, message: str, tmp_path: Path
) -> None:
    dataset = write_batches([dense_batch(np.ones((3, 1)), np.array([0, 1, label]))], tmp_path / "s")
    with pytest.raises(DataError, match=f"labels must be {message}"):
        BatchSolver(settings(loss=loss)).fit(dataset)


def test_weights_and_columns_that_are_not_finite_are_told(tmp_path: Path) -> None:
    batch = make_batch(20)
    negative = replace(batch, weights=-batch.weights)
    with pytest.raises(DataError, match="weights of examples must be finite and not negative"):
        BatchSolver(settings()).fit(write_batches([negative], tmp_path / "weights"))
    infinite = replace(batch, dense=batch.dense * np.float32(np.inf))
    with pytest.raises(DataError, match="dense column 'age'"):
        BatchSolver(settings()).fit(write_batches([infinite], tmp_path / "dense"))
    with pytest.raises(DataError, match="20 examples for num_workers = 21"):
        BatchSolver(settings(num_workers=21)).fit(write_batches([batch], tmp_path / "few"))
