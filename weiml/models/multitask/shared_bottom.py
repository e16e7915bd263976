"""Shared bottom: one network below, a small one for each task on top.

    logit_t = MLP_t(MLP([pool_s(v_k x_k) for slots s] ‖ dense))

(Caruana, "Multitask learning", Machine Learning 1997.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.multitask.base import MultiTaskModel, Towers
from weiml.models.multitask.config import MultiTaskConfig
from weiml.models.registry import register_model

__all__ = ["SharedBottom", "SharedBottomConfig"]


@dataclass(frozen=True, kw_only=True)
class SharedBottomConfig(MultiTaskConfig):
    """Shape of the shared network."""

    name: Literal["shared_bottom"] = "shared_bottom"
    hidden: tuple[int, ...] = (256, 128)


class _Network(nn.Module):
    def __init__(self, config: SharedBottomConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.bottom = MLP(
            shape.num_inputs,
            config.hidden,
            shape.generator,
            num_outputs=None,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )
        self.towers = Towers(self.bottom.num_outputs, config, shape)
        self._count = len(config.tasks)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return torch.as_tensor(self.towers([self.bottom(inputs.flat)] * self._count))


@register_model
class SharedBottom(MultiTaskModel):
    """See the module."""

    name = "shared_bottom"
    config_class = SharedBottomConfig
    config: SharedBottomConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
