"""Multi-gate Mixture-of-Experts: each task takes its own mixture of shared experts.

    logit_t = MLP_t(Σ_e softmax(W_t x)_e f_e(x))

(Ma et al., "Modeling task relationships in multi-task learning with multi-gate
mixture-of-experts", KDD 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.multitask.base import MultiTaskModel, Towers
from weiml.models.multitask.config import MultiTaskConfig
from weiml.models.multitask.experts import Experts, Gate
from weiml.models.registry import register_model

__all__ = ["MMoE", "MMoEConfig"]


@dataclass(frozen=True, kw_only=True)
class MMoEConfig(MultiTaskConfig):
    """How many experts, and their shape."""

    name: Literal["mmoe"] = "mmoe"
    experts: int = 4
    hidden: tuple[int, ...] = (128, 64)
    """Layers of each expert."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts < 1:
            raise ConfigError(f"experts must be at least 1, got {self.experts}")


class _Network(nn.Module):
    def __init__(self, config: MMoEConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.experts = Experts(
            config.experts,
            shape.num_inputs,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )
        self.gates = nn.ModuleList(Gate(shape.num_inputs, config.experts) for _ in config.tasks)
        width = config.hidden[-1] if config.hidden else shape.num_inputs
        self.towers = Towers(width, config, shape)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        experts = self.experts(inputs.flat)
        return torch.as_tensor(self.towers([gate(inputs.flat, experts) for gate in self.gates]))


@register_model
class MMoE(MultiTaskModel):
    """See the module."""

    name = "mmoe"
    config_class = MMoEConfig
    config: MMoEConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
