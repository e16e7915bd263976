"""DPN, a dual path network: one path is added to, as in ResNet, the other grows, as in DenseNet.

    [a | g] = change([r | d])        r <- r + a        d <- [d | g]

(Chen et al., "Dual Path Networks", NIPS 2017.) `change` is three layers of norm, relu and
convolution, sizes 1, 3 (in groups) and 1. The first block of a stage projects its input to a new r
and d, of two increments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.deep.layers import Dropout, he_linear
from weiml.models.image.base import ImageModel
from weiml.models.image.config import ImageConfig, Norm
from weiml.models.image.layers import conv, norm
from weiml.models.image.resnet import stem
from weiml.models.registry import register_model

__all__ = ["DPN", "DPNConfig"]


@dataclass(frozen=True, kw_only=True)
class DPNConfig(ImageConfig):
    """The defaults are a small network for small images.

    The paper's DPN-92: stem "large", stem_width 64, blocks (3, 4, 20, 3), residual_width 256,
    increments (16, 32, 24, 128), group_width 96 and groups 32.
    """

    name: Literal["dpn"] = "dpn"
    norm: Norm = "batch"
    stem: Literal["small", "large"] = "small"
    """See ResNet's."""
    stem_width: int = 16
    blocks: tuple[int, ...] = (2, 2, 2)
    """Blocks of each stage."""
    residual_width: int = 64
    """Channels of the path that is added to, in the first stage; each further one doubles them."""
    increments: tuple[int, ...] = (8, 16, 16)
    """Channels by which the other path grows, a block, of each stage."""
    group_width: int = 32
    """Channels of the convolution in groups, in the first stage; each further one doubles them."""
    groups: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = (self.stem_width, self.residual_width, self.group_width, self.groups)
        if not self.blocks or min(*sizes, *self.blocks, *self.increments, 1) < 1:
            raise ConfigError(
                "stem_width, residual_width, group_width, groups, blocks and increments must be "
                f"at least 1, got {sizes}, {self.blocks} and {self.increments}"
            )
        if len(self.increments) != len(self.blocks):
            raise ConfigError(
                f"increments must be one a stage, {len(self.blocks)} as blocks, got "
                f"{self.increments}"
            )
        if self.group_width % self.groups:
            raise ConfigError(
                f"group_width must be a multiple of groups = {self.groups}, got {self.group_width}"
            )


def _layer(
    before: int, after: int, size: int, norms: Norm, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        norm(norms, before), nn.ReLU(), conv(before, after, size, stride=stride, groups=groups)
    )


class _Block(nn.Module):
    """Maps (B, R + D, H, W) to (B, R + D + increment, …), the added path's R channels first.

    Given a number of inputs to project, it maps these to (B, R + 3 · increment, …).
    """

    def __init__(
        self,
        num_inputs: int,
        residual: int,
        increment: int,
        width: int,
        config: DPNConfig,
        *,
        project: bool,
        stride: int,
    ) -> None:
        super().__init__()
        norms = config.norm
        self.residual = residual
        self.project: nn.Module = nn.Identity()
        if project:
            self.project = _layer(num_inputs, residual + 2 * increment, 1, norms, stride=stride)
        self.change = nn.Sequential(
            _layer(num_inputs, width, 1, norms),
            _layer(width, width, 3, norms, stride=stride, groups=config.groups),
            _layer(width, residual + increment, 1, norms),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, change = self.project(x), self.change(x)
        r = self.residual
        return torch.cat([kept[:, :r] + change[:, :r], kept[:, r:], change[:, r:]], 1)


class _Network(nn.Module):
    def __init__(self, config: DPNConfig, generator: torch.Generator) -> None:
        super().__init__()
        channels = config.stem_width
        layers = [stem(config.stem, config.channels, channels, config.norm)]
        for stage, (count, increment) in enumerate(
            zip(config.blocks, config.increments, strict=True)
        ):
            residual, width = config.residual_width << stage, config.group_width << stage
            for block in range(count):
                first = block == 0
                layers.append(
                    _Block(
                        channels, residual, increment, width, config,
                        project=first, stride=2 if stage and first else 1,
                    )
                )  # fmt: skip
                channels = residual + 3 * increment if first else channels + increment
        layers += [norm(config.norm, channels), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.dropout = Dropout(config.dropout, generator)
        self.classify = he_linear(channels, len(config.classes), relu=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.features(images).mean((2, 3))
        return torch.as_tensor(self.classify(self.dropout(pooled)))


@register_model
class DPN(ImageModel):
    """See the module."""

    name = "dpn"
    config_class = DPNConfig
    config: DPNConfig

    def build(self, generator: torch.Generator) -> nn.Module:
        """See `ImageModel.build`."""
        return _Network(self.config, generator)
