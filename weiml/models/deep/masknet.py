"""MaskNet: layers whose inputs are multiplied by a mask that the example itself makes.

    x = [e_s for slots s] ‖ dense,  n = [LN(e_s) for slots s] ‖ dense
    mask(x) = W_2 relu(W_1 x + b_1) + b_2
    block(h) = relu(LN(W (mask(x) ⊙ h)))
    parallel:  logit = MLP(block_1(n) ‖ … ‖ block_K(n))
    serial:    logit = MLP(block_K(… block_2(block_1(n))))

(Wang, She and Zhang, "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by
Instance-Guided Mask", DLP-KDD 2021.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from weiml.errors import ConfigError
from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP, he_linear
from weiml.models.deep.sizes import check_sizes
from weiml.models.registry import register_model

__all__ = ["MaskBlock", "MaskNet", "MaskNetConfig", "SlotNorm"]


@dataclass(frozen=True, kw_only=True)
class MaskNetConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["masknet"] = "masknet"
    structure: Literal["parallel", "serial"] = "parallel"
    blocks: tuple[int, ...] = (64, 64, 64)
    """Outputs of each block."""
    mask_ratio: float = 1.0
    """The hidden layer of a mask is this many times as wide as the mask."""
    hidden: tuple[int, ...] = (128, 64)
    """Of the network above the blocks; the paper's serial form has none: ``()``."""
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "blocks")
        if not self.blocks:
            raise ConfigError("blocks must name at least one block's outputs, got ()")
        if not self.mask_ratio > 0:
            raise ConfigError(f"mask_ratio must be above 0, got {self.mask_ratio}")


class SlotNorm(nn.Module):
    """Normalises each slot's embedding to mean 0 and deviation 1, then scales and shifts it."""

    def __init__(self, num_slots: int, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_slots, dim))
        self.shift = nn.Parameter(torch.zeros(num_slots, dim))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return (B, S, d) of embeddings (B, S, d)."""
        normed = F.layer_norm(embeddings, embeddings.shape[2:])
        return torch.addcmul(self.shift, normed, self.scale)


class MaskBlock(nn.Module):
    """``relu(LN(W (mask(x) ⊙ h)))``.

    Args:
        num_inputs: columns of x.
        num_masked: columns of h.
        num_outputs: columns of the output.
        ratio: of the mask's hidden layer to its outputs.
    """

    def __init__(self, num_inputs: int, num_masked: int, num_outputs: int, ratio: float) -> None:
        super().__init__()
        aggregated = max(1, round(num_masked * ratio))
        scale = he_linear(aggregated, num_masked, relu=False)
        nn.init.ones_(scale.bias)  # new embeddings are about 0: so would their mask be
        self.mask = nn.Sequential(he_linear(num_inputs, aggregated), nn.ReLU(), scale)
        self.layer = he_linear(num_masked, num_outputs)
        self.norm = nn.LayerNorm(num_outputs)

    def forward(self, x: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Return (B, num_outputs) of x (B, num_inputs) and h (B, num_masked)."""
        return torch.relu(self.norm(self.layer(self.mask(x) * masked)))


class _Network(nn.Module):
    def __init__(self, config: MaskNetConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.norm = SlotNorm(len(shape.slots), shape.row_dim)
        self.serial = config.structure == "serial"
        size = shape.num_inputs
        masked = itertools.chain([size], config.blocks if self.serial else itertools.repeat(size))
        self.blocks = nn.ModuleList(
            MaskBlock(size, h, outputs, config.mask_ratio)
            for h, outputs in zip(masked, config.blocks, strict=False)
        )
        self.mlp = MLP(
            config.blocks[-1] if self.serial else sum(config.blocks),
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        h = torch.cat([self.norm(inputs.embeddings).flatten(1), inputs.dense], 1)
        if self.serial:
            for block in self.blocks:
                h = block(inputs.flat, h)
        else:
            h = torch.cat([block(inputs.flat, h) for block in self.blocks], 1)
        return self.mlp(h).squeeze(1)


@register_model
class MaskNet(DeepModel):
    """See the module."""

    name = "masknet"
    config_class = MaskNetConfig
    config: MaskNetConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
