"""Layers that several networks are made of. They draw from a generator that they are given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.linear import Linear

__all__ = ["MLP", "Activation", "Dropout", "activation", "he_linear"]

Activation = Literal["relu", "prelu", "sigmoid", "tanh", "gelu", "none"]


class Dropout(nn.Module):
    """Sets a share of its inputs to 0 in training and scales the others up."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share = share
        self._generator = generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x masked, of any shape."""
        if not self.training or not self.share:
            return x
        keep = 1.0 - self.share
        mask = torch.empty(x.shape, dtype=x.dtype).bernoulli_(keep, generator=self._generator)
        return x * (mask.to(x.device) / keep)


def activation(name: Activation, *, inplace: bool = False) -> nn.Module:
    """Return the module of a non-linearity.

    `inplace`: it may write to its input, which is no leaf and needed by no gradient before it.
    """
    if name == "relu":
        return nn.ReLU(inplace)
    kinds: dict[str, type[nn.Module]] = {
        "prelu": nn.PReLU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
        "none": nn.Identity,
    }
    return kinds[name]()


def he_linear(num_inputs: int, num_outputs: int, *, relu: bool = True) -> Linear:
    """Return a linear layer: He's uniform weights (Glorot's gain unless a relu follows), no bias.

    He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    layer = Linear(num_inputs, num_outputs)
    bound = ((6.0 if relu else 3.0) / max(num_inputs, 1)) ** 0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """``x -> … dropout(act(norm(W_1 x + b_1)))``, with a linear output layer if asked for.

    Args:
        num_inputs: columns of x.
        hidden: sizes of the hidden layers.
        generator: of dropout.
        num_outputs: of the output layer; None: the last hidden layer is the output.
        dropout: share of each hidden layer's outputs set to 0 in training.
        act: the non-linearity, or what makes its module for a number of columns.
        batch_norm: normalise before the non-linearity (Ioffe and Szegedy, ICML 2015).
    """

    def __init__(
        self,
        num_inputs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        *,
        num_outputs: int | None = 1,
        dropout: float = 0.0,
        act: Activation | Callable[[int], nn.Module] = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((num_inputs, *hidden)):
            layers.append(he_linear(before, after))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(activation(act, inplace=True) if isinstance(act, str) else act(after))
            if dropout:
                layers.append(Dropout(dropout, generator))
        self.num_outputs = num_outputs or (hidden[-1] if hidden else num_inputs)
        if num_outputs is not None:
            last = hidden[-1] if hidden else num_inputs
            layers.append(he_linear(last, num_outputs, relu=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, num_outputs) of x (B, num_inputs)."""
        return torch.as_tensor(self.layers(x))
