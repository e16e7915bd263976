"""Down-sampling of negatives: the closed form, and a model of what was kept put right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weiml.errors import ConfigError
from weiml.models import calibration_ratio
from weiml.models.calibration import Downsampling

NONE = np.empty(0)


@pytest.mark.parametrize("keep", [1e-5, 0.01, 0.3, 1.0, 4.0])
def test_closed_form(keep: float) -> None:
    p = np.array([0.001, 0.2, 0.5, 0.9, 0.999])
    fitted = Downsampling(keep_rate=keep).fit(NONE, NONE)
    np.testing.assert_allclose(fitted(p), p * keep / (1 - p + keep * p), rtol=1e-6)


def test_round_trip_on_simulated_clicks(rng: np.random.Generator) -> None:
    rates = np.array([0.002, 0.01, 0.05, 0.2])
    kind = rng.integers(0, 4, 400_000)
    labels = rng.random(400_000) < rates[kind]
    kept = labels | (rng.random(400_000) < 0.1)
    # A perfect model of what was kept: the share of positives of each kind.
    model = np.bincount(kind[kept], labels[kept]) / np.bincount(kind[kept])
    calibrated = Downsampling(keep_rate=0.1).fit(NONE, NONE)(model)
    np.testing.assert_allclose(model, rates / (rates + 0.1 * (1 - rates)), rtol=0.1)
    seen = np.bincount(kind, labels) / np.bincount(kind)
    np.testing.assert_allclose(calibrated, seen, rtol=0.02)
    assert calibration_ratio(labels, model[kind]) > 4
    assert calibration_ratio(labels, calibrated[kind]) == pytest.approx(1, abs=0.01)


def test_bad_parameters_are_refused() -> None:
    for keep in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="keep_rate must be a finite number above 0"):
            Downsampling(keep_rate=keep)
