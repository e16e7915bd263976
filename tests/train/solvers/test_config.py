"""Settings that make no sense are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.train.solvers import SolverConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"l1": -1.0}, "l1 must be a number from 0 on, got -1.0"),
        ({"l2": float("nan")}, "l2 must be"),
        ({"history": 0}, "history must be at least 1"),
        ({"num_workers": 0}, "num_workers must be at least 1"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0"),
        ({"loss": "hinge"}, "squared_hinge"),
        ({"search": {"decrease": 0.9, "curvature": 0.1}}, "0 < decrease < curvature < 1"),
        ({"search": {"shrink": 1.0}}, "shrink must be between 0 and 1"),
        ({"search": {"max_evaluations": 1}}, "max_evaluations must be at least 2"),
        ({"stop": {"max_iterations": 0}}, "max_iterations must be at least 1"),
        ({"stop": {"gradient_tolerance": 1.0}}, "gradient_tolerance must be in"),
        ({"stop": {"gradient_tolerence": 0.1}}, "did you mean 'gradient_tolerance'"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(SolverConfig, values)
