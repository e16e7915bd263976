"""xDeepFM: a compressed interaction network, whose layers multiply vectors, beside a network.

    X⁰ = [e_1 … e_F],  X^k_h = act(Σ_i Σ_j W^k_hij X^{k-1}_i ⊙ X⁰_j)  for h = 1 … H_k
    logit = Σ_k w_k x_k + uᵀ [Σ_d X^k_hd for all k, h] + MLP([e_s for slots s] ‖ dense)

(Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender
Systems", KDD 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.fields import Fields
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP, Activation, activation, he_linear
from weiml.models.deep.sizes import check_sizes
from weiml.models.registry import register_model

__all__ = ["CIN", "XDeepFM", "XDeepFMConfig"]


@dataclass(frozen=True, kw_only=True)
class XDeepFMConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["xdeepfm"] = "xdeepfm"
    cin: tuple[int, ...] = (16, 16, 16)
    """Vectors of each layer of the compressed interaction network: H_k."""
    cin_activation: Activation = "none"
    """The paper found none to be best."""
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False
    dense_fields: bool = False
    """Whether dense columns are fields of the interaction network too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "cin")
        if not self.cin:
            raise ConfigError("cin must name at least one layer's vectors, got ()")


class CIN(nn.Module):
    """The compressed interaction network: (B, F, d) to (B, Σ H_k).

    The sum over j goes first, as one product of matrices (B d, F) by (F, H_k H_{k-1}): the products
    of all pairs of vectors, which would be larger, are never made.
    """

    def __init__(self, num_fields: int, sizes: tuple[int, ...], act: Activation) -> None:
        super().__init__()
        weights = []
        before = num_fields
        for size in sizes:
            bound = (6.0 / (before * num_fields + size)) ** 0.5  # Glorot's
            weights.append(torch.empty(size, before, num_fields).uniform_(-bound, bound))
            before = size
        self.weights = nn.ParameterList(weights)
        self.act = activation(act)
        self.num_outputs = sum(sizes)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Return the sums over d of all layers' vectors."""
        first = fields.transpose(1, 2).contiguous()
        x, sums = first, []
        for weight in self.weights:
            inner = first @ weight.flatten(0, 1).t()
            inner = inner.view(*x.shape[:2], *weight.shape[:2])
            x = self.act((inner * x.unsqueeze(2)).sum(3))
            sums.append(x.sum(1))
        return torch.cat(sums, 1)


class _Network(nn.Module):
    def __init__(self, config: XDeepFMConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.fields = Fields(shape, dense_fields=config.dense_fields, init_scale=config.init_scale)
        self.cin = CIN(self.fields.count, config.cin, config.cin_activation)
        self.output = he_linear(self.cin.num_outputs, 1, relu=False)
        self.mlp = MLP(
            shape.num_inputs,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert inputs.linear is not None
        interactions = self.output(self.cin(self.fields(inputs)))
        return (interactions + self.mlp(inputs.flat)).squeeze(1) + inputs.linear


@register_model
class XDeepFM(DeepModel):
    """See the module."""

    name = "xdeepfm"
    config_class = XDeepFMConfig
    config: XDeepFMConfig
    has_linear = True

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
