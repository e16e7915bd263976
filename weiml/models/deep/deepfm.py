"""DeepFM: a factorization machine beside a network, on the same embeddings.

    logit = Σ_k w_k x_k + Σ_{i<j} <e_i, e_j> + MLP([e_s for slots s] ‖ dense)

(Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.fields import Fields
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.registry import register_model

__all__ = ["DeepFM", "DeepFMConfig", "sum_of_pairs"]


@dataclass(frozen=True, kw_only=True)
class DeepFMConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["deepfm"] = "deepfm"
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False
    dense_fields: bool = False
    """Whether dense columns are fields of the factorization machine too."""


def sum_of_pairs(fields: torch.Tensor) -> torch.Tensor:
    """Return ``Σ_{i<j} <e_i, e_j>`` (B,) of fields (B, F, d), in O(F d): ½ (‖Σ e‖² - Σ ‖e‖²)."""
    return 0.5 * (fields.sum(1).square().sum(1) - fields.square().sum((1, 2)))


class _Network(nn.Module):
    def __init__(self, config: DeepFMConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.fields = Fields(shape, dense_fields=config.dense_fields, init_scale=config.init_scale)
        self.mlp = MLP(
            shape.num_inputs,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert inputs.linear is not None
        pairs = sum_of_pairs(self.fields(inputs))
        return self.mlp(inputs.flat).squeeze(1) + inputs.linear + pairs


@register_model
class DeepFM(DeepModel):
    """See the module."""

    name = "deepfm"
    config_class = DeepFMConfig
    config: DeepFMConfig
    has_linear = True

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
