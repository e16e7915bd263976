"""Isotonic calibration against scikit-learn, and its bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from tests.models.calibration.conftest import Examples
from weiml.errors import ConfigError
from weiml.models.calibration import FittedIsotonic, Isotonic


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1), st.floats(0.1, 9)), min_size=1))
@settings(deadline=None, max_examples=100)
def test_all_steps_are_the_reference_s(rows: list[tuple[int, int, float]]) -> None:
    scores, labels, weights = np.array(rows).T
    scores = scores / 20
    reference = IsotonicRegression(out_of_bounds="clip").fit(scores, labels, weights)
    found = Isotonic(num_bins=0).fit(scores, labels, weights)
    grid = np.linspace(0, 1, 401)
    np.testing.assert_allclose(found(grid), reference.predict(grid), atol=1e-6)


@pytest.mark.parametrize("bins", ["mass", "width"])
def test_points_are_averages_over_bins(bins: str, examples: Examples) -> None:
    scores, labels, weights = (column[:2000] for column in examples)
    calibration = Isotonic(num_bins=20, bins=bins)  # type: ignore[arg-type]
    fitted = calibration.fit(scores, labels, weights)
    assert isinstance(fitted, FittedIsotonic)
    steps = IsotonicRegression().fit(scores, labels, weights).predict(scores)
    if bins == "mass":
        order = np.argsort(scores, kind="stable")
        shares = np.empty(2000)
        shares[order] = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    else:
        shares = (scores - scores.min()) / (scores.max() - scores.min())
    places = np.minimum((shares * 20).astype(int), 19)
    parts = [places == place for place in np.unique(places)]
    x, y = (
        np.array([np.average(column[at], weights=weights[at]) for at in parts])
        for column in (scores, steps)
    )
    factor = (steps @ weights) / (np.interp(scores, x, y) @ weights)
    assert factor == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(fitted.scores, x, atol=1e-6)
    np.testing.assert_allclose(fitted.probabilities, np.minimum(y * factor, 1), atol=1e-6)


def test_bins_keep_more_of_the_order_than_steps(examples: Examples) -> None:
    counts = [
        len(np.unique(Isotonic(num_bins=bins).fit(*examples)(examples.scores))) for bins in (25, 0)
    ]
    assert counts[0] > 5 * counts[1]


def test_bad_parameters_and_points_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_bins must be 0 \(all steps\) or more, got -1"):
        Isotonic(num_bins=-1)
    for scores, probabilities in (([0.2, 0.1], [0.1, 0.2]), ([0.1, 0.2], [0.2, 0.1]), ([], [])):
        with pytest.raises(ValueError, match="must rise"):
            FittedIsotonic(np.array(scores), np.array(probabilities))
