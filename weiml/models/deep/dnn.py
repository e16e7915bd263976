"""A deep network over pooled embeddings: what Wide & Deep is without its wide part.

    logit = MLP([pool_s(v_k x_k) for slots s] ‖ dense)

(Covington, Adams and Sargin, "Deep neural networks for YouTube recommendations", RecSys 2016.)
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

__all__ = ["DNN", "DNNConfig"]


@dataclass(frozen=True, kw_only=True)
class DNNConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["dnn"] = "dnn"
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False


class _Network(nn.Module):
    def __init__(self, config: DNNConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.mlp = MLP(
            shape.num_inputs,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return self.mlp(inputs.flat).squeeze(1)


@register_model
class DNN(DeepModel):
    """See the module."""

    name = "dnn"
    config_class = DNNConfig
    config: DNNConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
