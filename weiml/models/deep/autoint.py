"""AutoInt: fields attend to one another, several heads and layers deep; perhaps beside a network.

    e'_m = relu(‖_h Σ_k a^h_mk W^h_V e_k  +  W_R e_m),  a^h_mk = softmax_k(<W^h_Q e_m, W^h_K e_k>)
    logit = wᵀ [e'_1 ‖ … ‖ e'_F ‖ dense] + b + MLP([e_s for slots s] ‖ dense)

(Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks",
CIKM 2019. With the MLP it is the paper's AutoInt+.)
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
from weiml.models.deep.layers import MLP, he_linear
from weiml.models.deep.linear import Linear
from weiml.models.deep.sizes import check_sizes
from weiml.models.registry import register_model

__all__ = ["AutoInt", "AutoIntConfig", "FieldAttention"]


@dataclass(frozen=True, kw_only=True)
class AutoIntConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["autoint"] = "autoint"
    num_attention_layers: int = 3
    attention_dim: int = 32
    """Numbers of a field after each layer, of all heads together."""
    num_heads: int = 2
    scaled: bool = False
    """Whether the products of queries and keys are divided by the root of a head's size."""
    hidden: tuple[int, ...] = (256, 128, 64)
    """Of the network beside the attention; ``()``: AutoInt without it."""
    batch_norm: bool = False
    dense_fields: bool = False
    """Whether dense columns are fields that attend and are attended to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "num_attention_layers", "attention_dim", "num_heads")
        if self.attention_dim % self.num_heads:
            raise ConfigError(
                f"attention_dim must be a multiple of num_heads, got {self.attention_dim} and "
                f"{self.num_heads}"
            )


class FieldAttention(nn.Module):
    """One layer: each field becomes a mean of all, weighted by attention, plus itself.

    Args:
        num_inputs: numbers of a field before.
        num_outputs: after, of all heads together.
        num_heads: that attend apart from one another.
        scaled: see `AutoIntConfig`.
    """

    def __init__(self, num_inputs: int, num_outputs: int, num_heads: int, scaled: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (num_heads / num_outputs) ** 0.5 if scaled else 1.0
        self.project = Linear(num_inputs, 4 * num_outputs, bias=False)
        bound = (6.0 / (num_inputs + num_outputs)) ** 0.5  # Glorot's, of each of the four alone
        nn.init.uniform_(self.project.weight, -bound, bound)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Return (B, F, num_outputs) of fields (B, F, num_inputs)."""
        query, key, value, residual = self.project(fields).chunk(4, 2)
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        weights = torch.softmax(self.scale * (query @ key.transpose(2, 3)), 3)
        attended = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return torch.relu(attended + residual)


class _Network(nn.Module):
    def __init__(self, config: AutoIntConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.fields = Fields(shape, dense_fields=config.dense_fields, init_scale=config.init_scale)
        size = config.attention_dim
        before = (self.fields.dim, *[size] * (config.num_attention_layers - 1))
        self.attention = nn.Sequential(
            *(FieldAttention(n, size, config.num_heads, config.scaled) for n in before)
        )
        self.output = he_linear(self.fields.count * size + len(shape.dense_names), 1, relu=False)
        self.mlp: MLP | None = None
        if config.hidden:
            self.mlp = MLP(
                shape.num_inputs,
                config.hidden,
                shape.generator,
                dropout=config.dropout,
                batch_norm=config.batch_norm,
            )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        attended = self.attention(self.fields(inputs)).flatten(1)
        logits = torch.as_tensor(self.output(torch.cat([attended, inputs.dense], 1)))
        if self.mlp is not None:
            logits = logits + self.mlp(inputs.flat)
        return logits.squeeze(1)


@register_model
class AutoInt(DeepModel):
    """See the module."""

    name = "autoint"
    config_class = AutoIntConfig
    config: AutoIntConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
