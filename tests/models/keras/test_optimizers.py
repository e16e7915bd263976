"""The flat optimizers take the steps that torch's take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from weiml.errors import ConfigError, DataError
from weiml.models.keras.optimizers import FlatOptimizer

TORCH: dict[str, Any] = {
    "adam": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1, betas=(0.8, 0.999)),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.02, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02, weight_decay=0.1, momentum=0.8),
}


@pytest.mark.parametrize("name", sorted(TORCH))
def test_steps_equal_torchs(name: str) -> None:
    rng = np.random.default_rng(1)
    vector = rng.standard_normal(50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(vector.copy()))
    theirs = TORCH[name]([parameter])
    own = FlatOptimizer(name, lr=0.02, weight_decay=0.1, momentum=0.8)
    for _ in range(20):
        gradient = rng.standard_normal(50).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient)
        theirs.step()
        own.step(vector, gradient)
    np.testing.assert_allclose(vector, parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_long_gradients_are_clipped_and_rates_scheduled() -> None:
    vector = np.zeros(2, np.float32)
    own = FlatOptimizer("sgd", lr=1.0, clip_norm=1.0)
    own.step(vector, np.array([3, 4], np.float32))
    np.testing.assert_allclose(vector, [-0.6, -0.8], rtol=1e-6)
    own.scale_lr(0.5)
    own.schedule_lr(0.1)
    own.step(vector, np.array([1, 0], np.float32))
    np.testing.assert_allclose(vector, [-0.65, -0.8], rtol=1e-6)


def test_memory_moves_to_another() -> None:
    gradient = np.ones(4, np.float32)
    one, two = np.zeros(4, np.float32), np.zeros(4, np.float32)
    first, second = FlatOptimizer("adam", lr=0.1), FlatOptimizer("adam", lr=0.1)
    first.step(one, gradient)
    two[:] = one
    second.set_state(first.state())
    first.step(one, -gradient)
    second.step(two, -gradient)
    np.testing.assert_array_equal(one, two)
    assert FlatOptimizer("sgd", lr=0.1).state() == {}


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="optimizer must be one of adam"):
        FlatOptimizer("lion", lr=0.1)
    with pytest.raises(DataError, match="has no memory"):
        FlatOptimizer("sgd", lr=0.1).set_state({"step": np.array(1), "sum": np.zeros(2)})
