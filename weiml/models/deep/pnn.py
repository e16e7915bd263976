"""Product-based network: products of the fields are inputs of the network, beside the fields.

    inner:  p = [<e_i, e_j> for i < j]
    outer:  p = upper triangle of e_Σ e_Σᵀ, e_Σ = Σ_i e_i
    logit = MLP([e_s for slots s] ‖ dense ‖ p)

(Qu et al., "Product-based Neural Networks for User Response Prediction", ICDM 2016.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.fields import Fields, pairs
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.registry import register_model

__all__ = ["PNN", "InnerProducts", "OuterProduct", "PNNConfig"]


@dataclass(frozen=True, kw_only=True)
class PNNConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["pnn"] = "pnn"
    product: Literal["inner", "outer", "both"] = "inner"
    """IPNN, OPNN, or the products of both."""
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False
    dense_fields: bool = False
    """Whether dense columns are fields of the products too."""


class InnerProducts(nn.Module):
    """``<e_i, e_j>`` of all pairs i < j: (B, F, d) to (B, F(F-1)/2)."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        left, right = pairs(fields.count)
        self.num_outputs = len(left)
        self.register_buffer("places", left * fields.count + right, persistent=False)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Return the products."""
        products = torch.bmm(fields, fields.transpose(1, 2)).flatten(1)
        return products.index_select(1, self.get_buffer("places"))


class OuterProduct(nn.Module):
    """The outer products of all pairs, summed up: the triangle of ``e_Σ e_Σᵀ``, (B, d(d+1)/2).

    The product is symmetric, so that its triangle says all.
    """

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        left, right = torch.triu_indices(fields.dim, fields.dim)
        self.num_outputs = len(left)
        self.register_buffer("places", left * fields.dim + right, persistent=False)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Return the products."""
        total = fields.sum(1)
        square = (total.unsqueeze(2) * total.unsqueeze(1)).flatten(1)
        return square.index_select(1, self.get_buffer("places"))


class _Network(nn.Module):
    def __init__(self, config: PNNConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.fields = Fields(shape, dense_fields=config.dense_fields, init_scale=config.init_scale)
        products: list[InnerProducts | OuterProduct] = []
        if config.product != "outer":
            products.append(InnerProducts(self.fields))
        if config.product != "inner":
            products.append(OuterProduct(self.fields))
        self.products = nn.ModuleList(products)
        self.mlp = MLP(
            shape.num_inputs + sum(layer.num_outputs for layer in products),
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        fields = self.fields(inputs)
        products = [layer(fields) for layer in self.products]
        return self.mlp(torch.cat([inputs.flat, *products], 1)).squeeze(1)


@register_model
class PNN(DeepModel):
    """See the module."""

    name = "pnn"
    config_class = PNNConfig
    config: PNNConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
