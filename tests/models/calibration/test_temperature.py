"""Temperature scaling: the divisor that was put in is found, and the order never turns."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.calibration.conftest import Examples, distorted
from weiml.models.calibration import FittedScaling, Temperature


def test_the_temperature_is_found(rng: np.random.Generator) -> None:
    fitted = Temperature().fit(*distorted(rng, 20_000, 2.5, 0.0))
    assert isinstance(fitted, FittedScaling)
    assert 1 / fitted.slope == pytest.approx(2.5, rel=0.03)
    assert fitted.intercept == 0
    assert fitted(np.array([0.5]))[0] == 0.5


def test_a_shift_needs_the_bias(examples: Examples) -> None:
    fitted = Temperature(bias=True).fit(*examples)
    assert isinstance(fitted, FittedScaling)
    assert 1 / fitted.slope == pytest.approx(1.7, rel=0.05)
    assert fitted.intercept == pytest.approx(-1 / 1.7, abs=0.05)


@pytest.mark.parametrize("bias", [False, True])
def test_a_falling_order_is_not_turned_round(bias: bool, examples: Examples) -> None:
    calibrated = Temperature(bias=bias).fit(1 - examples.scores, examples.labels)(examples.scores)
    assert len(np.unique(calibrated)) == 1
    assert calibrated[0] == pytest.approx(examples.labels.mean() if bias else 0.5)
