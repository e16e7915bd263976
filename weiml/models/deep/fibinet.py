"""FiBiNET: fields weighted by their importance, and products of pairs through a matrix.

    v_i = a_i e_i,  a = relu(W_2 relu(W_1 z)),  z_i = mean of e_i's numbers          (SENet)
    p_ij = (W e_i) ⊙ e_j,  q_ij = (W v_i) ⊙ v_j  for i < j                           (bilinear)
    logit = Σ_k w_k x_k + MLP([p ‖ q] ‖ dense)

W is one matrix ("all"), one a field i ("each") or one a pair ("interaction").

(Huang, Zhang and Zhang, "FiBiNET: Combining Feature Importance and Bilinear feature Interaction for
Click-Through Rate Prediction", RecSys 2019.)
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
from weiml.models.deep.linear import Linear
from weiml.models.deep.sizes import check_sizes
from weiml.models.registry import register_model

__all__ = ["Bilinear", "BilinearPairs", "FiBiNET", "FiBiNETConfig", "SENet"]

Bilinear = Literal["all", "each", "interaction"]


@dataclass(frozen=True, kw_only=True)
class FiBiNETConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["fibinet"] = "fibinet"
    bilinear: Bilinear = "each"
    """Which pairs share a matrix: the paper's field-all, field-each and field-interaction."""
    reduction: int = 3
    """The hidden layer of the fields' importance has F over this many numbers."""
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False
    dense_fields: bool = False
    """Whether dense columns are fields too. Pairs, and so the first layer, grow with F²."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "reduction")


class SENet(nn.Module):
    """Multiplies each field by its importance in the example: (B, F, d) to (B, F, d)."""

    def __init__(self, num_fields: int, reduction: int) -> None:
        super().__init__()
        reduced = max(1, num_fields // reduction)
        self.squeeze = Linear(num_fields, reduced, bias=False)
        self.excite = Linear(reduced, num_fields, bias=False)
        nn.init.xavier_uniform_(self.squeeze.weight)
        nn.init.xavier_uniform_(self.excite.weight)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Return the weighted fields."""
        hidden = torch.relu(self.squeeze(fields.mean(2)))
        importance = torch.relu(self.excite(hidden))
        return fields * importance.unsqueeze(2)


class BilinearPairs(nn.Module):
    """``(W e_i) ⊙ e_j`` of all pairs i < j: (B, F, d) to (B, P d), P = F(F-1)/2."""

    def __init__(self, num_fields: int, dim: int, kind: Bilinear) -> None:
        super().__init__()
        left, right = pairs(num_fields)
        self.num_outputs = len(left) * dim
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)
        self.per_pair = kind == "interaction"
        count = {"all": 1, "each": num_fields - 1, "interaction": len(left)}[kind]
        bound = (3.0 / dim) ** 0.5  # Glorot's
        self.weight = nn.Parameter(torch.empty(count, dim, dim).uniform_(-bound, bound))

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Return the products, pair by pair."""
        left, right = self.get_buffer("left"), self.get_buffer("right")
        if self.per_pair:
            projected = torch.einsum("bpd,ped->bpe", fields.index_select(1, left), self.weight)
        else:  # the last field is left of none
            weight = self.weight.expand(fields.shape[1] - 1, -1, -1)
            projected = torch.einsum("bfd,fed->bfe", fields[:, :-1], weight).index_select(1, left)
        return (projected * fields.index_select(1, right)).flatten(1)


class _Network(nn.Module):
    def __init__(self, config: FiBiNETConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.fields = Fields(shape, dense_fields=config.dense_fields, init_scale=config.init_scale)
        self.senet = SENet(self.fields.count, config.reduction)
        self.pairs = BilinearPairs(self.fields.count, self.fields.dim, config.bilinear)
        self.mlp = MLP(
            2 * self.pairs.num_outputs + len(shape.dense_names),
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert inputs.linear is not None
        fields = self.fields(inputs)
        products = [self.pairs(fields), self.pairs(self.senet(fields)), inputs.dense]
        return self.mlp(torch.cat(products, 1)).squeeze(1) + inputs.linear


@register_model
class FiBiNET(DeepModel):
    """See the module."""

    name = "fibinet"
    config_class = FiBiNETConfig
    config: FiBiNETConfig
    has_linear = True

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
