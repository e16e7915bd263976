"""Dice: a PReLU whose corner lies where the data is (Zhou et al., KDD 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.layers import activation

__all__ = ["Dice", "HistoryActivation", "history_activation"]

HistoryActivation = Literal["dice", "prelu", "relu"]


class Dice(nn.Module):
    """``f(s) = p s + (1 - p) α s`` with ``p = sigmoid((s - E[s]) / sqrt(Var[s] + ε))``.

    E and Var are the batch's in training, running means afterwards; α is learned for each column,
    from 0 on. A batch of one example or none is taken by the running means in training too.

    Args:
        num_columns: n.
        momentum: share of a batch in the running means.
        epsilon: added to the variance.
    """

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, num_columns: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self._momentum = momentum
        self._epsilon = epsilon
        self.alpha = nn.Parameter(torch.zeros(num_columns))
        self.register_buffer("mean", torch.zeros(num_columns))
        self.register_buffer("variance", torch.ones(num_columns))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, n) of x (B, n)."""
        mean, variance = self.mean, self.variance
        if self.training and len(x) > 1:
            mean, variance = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.mean.lerp_(mean.to(self.mean), self._momentum)
                self.variance.lerp_(variance.to(self.variance), self._momentum)
        p = torch.sigmoid((x - mean) * torch.rsqrt(variance + self._epsilon))
        return x * (p + (1 - p) * self.alpha)


def history_activation(name: HistoryActivation) -> Callable[[int], nn.Module]:
    """Return what makes the module of a non-linearity for a number of columns."""
    if name == "dice":
        return Dice
    return lambda num_columns: activation(name)
