"""ResNet: blocks that learn what to add to their input.

    y = relu(x + norm(conv(relu(norm(conv(x))))))

(He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.) Where the form changes, x is
projected by a convolution of size 1 (the paper's option B).
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
from weiml.models.registry import register_model

__all__ = ["ResNet", "ResNetConfig", "stem"]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ImageConfig):
    """The defaults are ResNet-18 for small images; ResNet-34 has blocks (3, 4, 6, 3)."""

    name: Literal["resnet"] = "resnet"
    norm: Norm = "batch"
    stem: Literal["small", "large"] = "small"
    """First layers: "small", a convolution of 3; "large", one of 7 and a pooling, for pictures of
    about 224, each halving the sides."""
    stem_width: int = 64
    """Channels of the first stage; each further stage doubles them and halves the sides."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks of each stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem_width < 1 or not self.blocks or min(self.blocks) < 1:
            raise ConfigError(
                f"stem_width and blocks must be at least 1, got {self.stem_width} and {self.blocks}"
            )


def stem(kind: Literal["small", "large"], channels: int, width: int, norms: Norm) -> nn.Module:
    """Return the first layers of a deep network: images (B, channels, H, W) to (B, width, …)."""
    if kind == "small":
        return nn.Sequential(conv(channels, width, 3), norm(norms, width), nn.ReLU())
    pooling = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(conv(channels, width, 7, stride=2), norm(norms, width), nn.ReLU(), pooling)


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, norms: Norm) -> None:
        super().__init__()
        self.change = nn.Sequential(
            conv(before, after, 3, stride=stride),
            norm(norms, after),
            nn.ReLU(),
            conv(after, after, 3),
            norm(norms, after),
        )
        self.project: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.project = nn.Sequential(conv(before, after, 1, stride=stride), norm(norms, after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.project(x) + self.change(x))


class _Network(nn.Module):
    def __init__(self, config: ResNetConfig, generator: torch.Generator) -> None:
        super().__init__()
        width = config.stem_width
        layers = [stem(config.stem, config.channels, width, config.norm)]
        for stage, count in enumerate(config.blocks):
            for block in range(count):
                after = config.stem_width << stage
                stride = 2 if stage and not block else 1
                layers.append(_Block(width, after, stride, config.norm))
                width = after
        self.features = nn.Sequential(*layers)
        self.dropout = Dropout(config.dropout, generator)
        self.classify = he_linear(width, len(config.classes), relu=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.features(images).mean((2, 3))
        return torch.as_tensor(self.classify(self.dropout(pooled)))


@register_model
class ResNet(ImageModel):
    """See the module."""

    name = "resnet"
    config_class = ResNetConfig
    config: ResNetConfig

    def build(self, generator: torch.Generator) -> nn.Module:
        """See `ImageModel.build`."""
        return _Network(self.config, generator)
