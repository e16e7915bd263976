"""Wide & Deep: a linear part over keys beside a network over their pooled embeddings.

    logit = Σ_k w_k x_k + MLP([pool_s(v_k x_k) for slots s] ‖ dense)

(Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.registry import register_model

__all__ = ["WideDeep", "WideDeepConfig"]


@dataclass(frozen=True, kw_only=True)
class WideDeepConfig(DeepConfig):
    """Crosses go into both parts unless `deep_slots` or `linear_slots` say otherwise."""

    name: Literal["wide_deep"] = "wide_deep"
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False


class _Network(nn.Module):
    def __init__(self, config: WideDeepConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.mlp = MLP(
            shape.num_inputs,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert inputs.linear is not None
        return self.mlp(inputs.flat).squeeze(1) + inputs.linear


@register_model
class WideDeep(DeepModel):
    """See the module."""

    name = "wide_deep"
    config_class = WideDeepConfig
    config: WideDeepConfig
    has_linear = True

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
