"""Schedules give the factors that their formulas say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.train import Constant, Cosine, Linear, Plateau, Stairs, TrainConfig


def test_all_warm_up_in_a_line() -> None:
    for schedule in (Constant(warmup_steps=4), Cosine(warmup_steps=4), Plateau(warmup_steps=4)):
        assert [schedule.factor(step, 20) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
        assert schedule.factor(4, 20) == 1.0


def test_they_end_where_they_should() -> None:
    assert Constant().factor(99, 100) == 1.0
    assert Linear(final=0.2).factor(50, 100) == pytest.approx(0.6)
    assert Linear(final=0.2).factor(100, 100) == pytest.approx(0.2)
    assert Cosine().factor(25, 100) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert Cosine(final=0.1).factor(100, 100) == pytest.approx(0.1)
    stairs = Stairs(at=(0.5, 0.9), by=0.5)
    assert [stairs.factor(step, 100) for step in (0, 49, 50, 89, 90)] == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((), 1.0),
        ((0.5, 0.4, 0.3), 1.0),
        ((0.5, 0.6), 0.1),
        ((0.5, 0.6, 0.4, 0.45), 0.01),
        ((0.5, 0.6, 0.7, 0.8, 0.9), 1e-3),
    ],
)
def test_a_plateau_lowers_the_rate(losses: tuple[float, ...], expected: float) -> None:
    assert Plateau().factor(3, 10, losses) == pytest.approx(expected)
    patient = Plateau(patience=2).factor(3, 10, losses)
    assert patient >= Plateau().factor(3, 10, losses)


def test_files_name_them() -> None:
    table: dict[str, Any] = {"name": "cosine", "warmup_steps": 3, "final": 0.5}
    config = from_mapping(TrainConfig, {"lr_schedule": table})
    assert config.lr_schedule == Cosine(warmup_steps=3, final=0.5)
    with pytest.raises(ConfigError, match="warmup_steps must not be negative"):
        Linear(warmup_steps=-1)
