"""Dice against its formula, in training and after."""

from __future__ import annotations

import numpy as np
import torch

from weiml.models.sequence.dice import Dice


def formula(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-(x - mean) / np.sqrt(variance + 1e-5)))
    return np.asarray(p * x + (1 - p) * alpha * x)


def test_the_corner_lies_where_the_data_is() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    alpha = np.array([0.0, 0.5, -1.0, 2.0])
    dice = Dice(4).double()
    dice.alpha.data = torch.tensor(alpha)
    found = dice(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, formula(x, x.mean(0), x.var(0), alpha), atol=1e-5)
    dice.eval()
    mean, variance = 0.1 * x.mean(0), 0.9 + 0.1 * x.var(0)
    served = dice(torch.tensor(x[:1])).detach().numpy()
    np.testing.assert_allclose(served, formula(x[:1], mean, variance, alpha), atol=1e-5)


def test_one_example_or_none_is_taken_by_the_running_means() -> None:
    dice = Dice(2)
    x = torch.tensor([[2.0, -1.0]])
    expected = formula(x.numpy(), np.zeros(2), np.ones(2), np.zeros(2))
    np.testing.assert_allclose(dice(x).detach(), expected, atol=1e-6)
    assert dice(x[:0]).shape == (0, 2)
    assert dice.mean.tolist() == [0.0, 0.0]
