"""What every calibration promises: the order, the shape, float32, saving, missing labels, tasks."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from tests.models.calibration.conftest import Examples, distorted
from weiml.errors import DataError
from weiml.models import auc, calibration_ratio, normalized_entropy, recalibrated_ne
from weiml.models.calibration import (
    Beta,
    Calibration,
    Downsampling,
    Identity,
    Isotonic,
    Platt,
    TaskCalibrations,
    Temperature,
    fitted_from_mapping,
)

LEARNED = [
    Isotonic(),
    Isotonic(num_bins=100, bins="width"),
    Isotonic(num_bins=0),
    Platt(),
    Platt(smoothing=False),
    Temperature(bias=True),
    Beta(),
]
ALL: list[Calibration] = [*LEARNED, Temperature(), Downsampling(keep_rate=0.1), Identity()]
every = pytest.mark.parametrize("calibration", ALL, ids=repr)


@pytest.mark.parametrize("calibration", LEARNED, ids=repr)
def test_the_order_stays_and_the_scale_is_put_right(
    calibration: Calibration, examples: Examples, rng: np.random.Generator
) -> None:
    scores, labels, weights = examples
    fitted = calibration.fit(*examples)
    for s, y, w in ((scores, labels, weights), distorted(rng, 20_000, 1.7, 1.0)):
        seen = s is scores
        before, after = normalized_entropy(y, s, w), normalized_entropy(y, fitted(s), w)
        assert after < before - 0.05
        assert after == pytest.approx(recalibrated_ne(y, s, w), abs=0.006 if seen else 0.01)
        assert calibration_ratio(y, fitted(s), w) == pytest.approx(1, abs=1e-3 if seen else 0.05)
        ties = 2e-3 if isinstance(calibration, Isotonic) else 1e-6
        assert auc(y, fitted(s), w) == pytest.approx(auc(y, s, w), abs=ties)


@every
def test_it_never_falls_and_stays_in_bounds(calibration: Calibration, examples: Examples) -> None:
    scores = np.linspace(0, 1, 1001, dtype=np.float32)
    calibrated = calibration.fit(*examples)(scores)
    assert calibrated.dtype == np.float32
    assert (np.diff(calibrated) >= 0).all()
    assert (calibrated >= 0).all()
    assert (calibrated <= 1).all()


@every
def test_any_shape_and_nothing(calibration: Calibration, examples: Examples) -> None:
    fitted = calibration.fit(*examples)
    column = fitted(examples.scores[:6].reshape(6, 1))
    assert column.shape == (6, 1)
    np.testing.assert_array_equal(column[:, 0], fitted(examples.scores[:6]))
    assert fitted(np.empty(0, np.float32)).shape == (0,)


@every
def test_saved_as_json_it_is_the_same(calibration: Calibration, examples: Examples) -> None:
    for fitted in (calibration.fit(*examples), calibration.fit(*pairs(examples))):
        text = json.dumps(fitted.to_mapping(), allow_nan=False)
        again = fitted_from_mapping(json.loads(text))
        assert again == fitted
        assert pickle.loads(pickle.dumps(fitted)) == fitted
        scores = examples.scores if fitted.name != "tasks" else pairs(examples)[0]
        np.testing.assert_array_equal(again(scores), fitted(scores))


@every
def test_missing_labels_and_weight_zero_are_left_out(
    calibration: Calibration, examples: Examples, rng: np.random.Generator
) -> None:
    gone = rng.random(20_000) < 0.2
    labels, weights = examples.labels.copy(), examples.weights.copy()
    labels[gone & (examples.scores > 0.5)] = np.nan
    weights[gone & (examples.scores <= 0.5)] = 0
    alone = calibration.fit(*(column[~gone] for column in examples))
    assert calibration.fit(examples.scores, labels, weights) == alone


@every
def test_tasks_are_fitted_by_themselves(calibration: Calibration, examples: Examples) -> None:
    scores, labels, weights = pairs(examples)
    labels[::3, 1] = np.nan
    fitted = calibration.fit(scores, labels, weights)
    assert isinstance(fitted, TaskCalibrations)
    calibrated = fitted(scores)
    assert calibrated.dtype == np.float32
    for t in range(2):
        one = calibration.fit(scores[:, t], labels[:, t], weights[:, t])
        np.testing.assert_array_equal(calibrated[:, t], one(scores[:, t]))
    shared = calibration.fit(scores, labels, weights[:, 0])
    assert isinstance(shared, TaskCalibrations)
    assert shared.tasks[0] == fitted.tasks[0]
    with pytest.raises(DataError, match=r"2 tasks need scores \(n, 2\), got \(3,\)"):
        fitted(np.zeros(3))


@every
def test_bad_input_is_refused(calibration: Calibration, examples: Examples) -> None:
    two = np.array([0.25, 0.75])
    for arguments, message in (
        ((two, two[:1]), r"labels must fit scores \(2,\), got \(1,\)"),
        ((two * 2, two), "probabilities in .0, 1., got 1.5 at position 1"),
        ((two, two * 2), "labels must lie"),
        ((two, two, two[:1]), r"weights must be as long as scores \(2\), got 1"),
        ((two, two, -two), "weights must not be negative"),
        ((np.eye(2), np.eye(2), np.ones(3)), r"weights must be \(2,\) or \(2, 2\)"),
    ):
        with pytest.raises(DataError, match=message):
            calibration.fit(*arguments)
    with pytest.raises(DataError, match="probabilities in .0, 1., got nan at position 1"):
        calibration.fit(*examples)(np.array([0.5, np.nan]))


@pytest.mark.parametrize("calibration", [*LEARNED, Temperature()], ids=repr)
def test_too_little_is_refused(calibration: Calibration) -> None:
    none = np.empty(0)
    with pytest.raises(DataError, match=f"calibration {calibration.name} has no examples"):
        calibration.fit(none, none)
    one_class = np.array([0.2, 0.4]), np.ones(2)
    if isinstance(calibration, Isotonic) or calibration == Platt():
        assert (calibration.fit(*one_class)(one_class[0]) > 0.5).all()
    else:
        with pytest.raises(DataError, match="needs both classes, but all 2 labels are 1"):
            calibration.fit(*one_class)


@every
def test_equal_scores_and_certain_ones(calibration: Calibration) -> None:
    labels = np.array([0.0, 1.0, 0.0, 0.0])
    same = calibration.fit(np.full(4, 0.3), labels)(np.array([0.3]))
    if calibration in LEARNED:
        assert same[0] == pytest.approx(0.25 if calibration != Platt() else 0.3167, abs=1e-3)
    certain = np.array([0.0, 1.0, 0.0, 1.0])
    ends = calibration.fit(certain, labels)(certain)
    assert np.isfinite(ends).all()


def pairs(examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same as two tasks, of which the second is the first from its end."""
    return (
        np.stack([examples.scores, examples.scores[::-1]], 1),
        np.stack([examples.labels, examples.labels[::-1] * 0.5], 1),
        np.stack([examples.weights, examples.weights[::-1]], 1),
    )
