"""DCN-V2: layers that multiply the inputs with themselves, below or beside a network.

    x_0 = [e_s for slots s] ‖ dense
    full:      x_{l+1} = x_0 ⊙ (W x_l + b) + x_l
    low_rank:  x_{l+1} = x_0 ⊙ (U Vᵀ x_l + b) + x_l
    mixture:   x_{l+1} = Σ_k g_k(x_l) x_0 ⊙ (U_k tanh(C_k tanh(V_kᵀ x_l)) + b) + x_l,  g = softmax
    stacked:   logit = MLP(x_L)              parallel:  logit = wᵀ [x_L ‖ MLP(x_0)] + c

(Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems", WWW 2021.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP, he_linear
from weiml.models.deep.linear import Linear
from weiml.models.deep.sizes import check_sizes
from weiml.models.registry import register_model

__all__ = ["DCNV2", "DCNV2Config", "FullCross", "LowRankCross", "MixtureCross"]


@dataclass(frozen=True, kw_only=True)
class DCNV2Config(DeepConfig):
    """Shape of the network."""

    name: Literal["dcn_v2"] = "dcn_v2"
    structure: Literal["parallel", "stacked"] = "parallel"
    cross: Literal["full", "low_rank", "mixture"] = "full"
    num_cross_layers: int = 3
    rank: int = 32
    """Columns of U and V."""
    experts: int = 4
    """Of each layer of a mixture."""
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "num_cross_layers", "rank", "experts")


class FullCross(nn.Module):
    """``x_0 ⊙ (W x + b) + x``, with n² + n parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.product = he_linear(size, size, relu=False)

    def forward(self, first: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return (B, n) of x_0 (B, n) and x (B, n)."""
        return torch.addcmul(x, first, self.product(x).to(x.dtype))


class LowRankCross(nn.Module):
    """``x_0 ⊙ (U Vᵀ x + b) + x``, with 2 n r + n parameters."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.down = Linear(size, rank, bias=False)
        nn.init.xavier_uniform_(self.down.weight)
        self.up = he_linear(rank, size, relu=False)

    def forward(self, first: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return (B, n) of x_0 (B, n) and x (B, n)."""
        return torch.addcmul(x, first, self.up(self.down(x)).to(x.dtype))


class MixtureCross(nn.Module):
    """Low-rank layers whose outputs are mixed by gates that depend on x.

    The gates sum up to 1, so that b and the products by U_k are taken once for all experts:
    ``Σ_k g_k (U_k h_k + b) = [U_1 … U_K] [g_1 h_1 ‖ … ‖ g_K h_K] + b``.
    """

    def __init__(self, size: int, rank: int, experts: int) -> None:
        super().__init__()
        self.experts = experts
        self.down = Linear(size, experts * rank, bias=False)
        self.middle = nn.Parameter(torch.empty(experts, rank, rank))
        self.gate = he_linear(size, experts, relu=False)
        self.up = Linear(experts * rank, size)
        bound = (6.0 / (size + rank)) ** 0.5  # Glorot's, of each expert alone
        for part, limit in (
            (self.down.weight, bound),
            (self.up.weight, bound),
            (self.middle, (3.0 / rank) ** 0.5),
        ):
            nn.init.uniform_(part, -limit, limit)
        nn.init.zeros_(self.up.bias)

    def forward(self, first: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return (B, n) of x_0 (B, n) and x (B, n)."""
        low = torch.tanh(self.down(x)).view(len(x), self.experts, -1)
        low = torch.tanh(torch.einsum("bkr,kqr->bkq", low, self.middle))
        gates = torch.softmax(self.gate(x), 1)
        mixed = self.up((low * gates.unsqueeze(2)).flatten(1))
        return torch.addcmul(x, first, mixed.to(x.dtype))


def _cross(config: DCNV2Config, size: int) -> nn.Module:
    if config.cross == "full":
        return FullCross(size)
    if config.cross == "low_rank":
        return LowRankCross(size, config.rank)
    return MixtureCross(size, config.rank, config.experts)


class _Network(nn.Module):
    def __init__(self, config: DCNV2Config, shape: NetworkShape) -> None:
        super().__init__()
        size = shape.num_inputs
        self.crosses = nn.ModuleList(_cross(config, size) for _ in range(config.num_cross_layers))
        self.stacked = config.structure == "stacked"
        self.mlp = MLP(
            size,
            config.hidden,
            shape.generator,
            num_outputs=1 if self.stacked else None,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )
        if not self.stacked:
            self.output = he_linear(size + self.mlp.num_outputs, 1, relu=False)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        x = inputs.flat
        for cross in self.crosses:
            x = cross(inputs.flat, x)
        if self.stacked:
            return self.mlp(x).squeeze(1)
        return torch.as_tensor(self.output(torch.cat([x, self.mlp(inputs.flat)], 1))).squeeze(1)


@register_model
class DCNV2(DeepModel):
    """See the module."""

    name = "dcn_v2"
    config_class = DCNV2Config
    config: DCNV2Config

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
