"""Experts: networks side by side, of which gates take mixtures.

(Jacobs et al., "Adaptive mixtures of local experts", Neural Computation 1991.)
"""

from __future__ import annotations

import torch
from torch import nn

from weiml.models.deep.layers import MLP, he_linear

__all__ = ["Experts", "Gate"]


class Experts(nn.Module):
    """E networks of one shape over the same inputs.

    Args:
        count: E.
        num_inputs: n.
        hidden: their layers' sizes; the last is the output's, m.
        generator: of dropout.
        dropout: see `MLP`.
        batch_norm: see `MLP`.
    """

    def __init__(
        self,
        count: int,
        num_inputs: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        *,
        dropout: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            MLP(
                num_inputs,
                hidden,
                generator,
                num_outputs=None,
                dropout=dropout,
                batch_norm=batch_norm,
            )
            for _ in range(count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, E, m) of x (B, n)."""
        return torch.stack([expert(x) for expert in self.experts], 1)


class Gate(nn.Module):
    """Shares of E experts by a softmax over a linear layer: ``softmax(W x + b)``."""

    def __init__(self, num_inputs: int, count: int) -> None:
        super().__init__()
        self.linear = he_linear(num_inputs, count, relu=False)

    def forward(self, x: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        """Return the mixture (B, m) of experts (B, E, m) for x (B, n)."""
        return torch.einsum("be,bem->bm", torch.softmax(self.linear(x), 1), experts)
