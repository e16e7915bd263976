"""A plain convolutional network, for small pictures: digits, spam's patterns, icons.

    x <- relu(maxpool(norm(conv(x)))), again and again;    logits = MLP(x)

(LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998; with
ReLU, maximum pooling and dropout as in Krizhevsky et al., NIPS 2012.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.deep.layers import MLP, Dropout
from weiml.models.image.base import ImageModel
from weiml.models.image.config import ImageConfig
from weiml.models.image.layers import conv, norm
from weiml.models.registry import register_model

__all__ = ["CNN", "CNNConfig"]


@dataclass(frozen=True, kw_only=True)
class CNNConfig(ImageConfig):
    """Each of `widths` is a convolution's channels; each halves the image's sides."""

    name: Literal["cnn"] = "cnn"
    widths: tuple[int, ...] = (16, 32, 64)
    kernel: int = 3
    """Sides of the convolutions, odd."""
    hidden: tuple[int, ...] = (128,)
    dropout: float = 0.2
    """Share of what goes into the first dense layer, and of each hidden layer, set to 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(*self.widths, *self.hidden, 1) < 1:
            raise ConfigError(
                f"widths and hidden must be at least 1, got {self.widths} and {self.hidden}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, got {self.kernel}")
        if min(self.height, self.width) >> len(self.widths) < 1:
            raise ConfigError(
                f"{len(self.widths)} widths halve an image of {self.height} x {self.width} to "
                "nothing; have fewer widths"
            )


class _Network(nn.Module):
    def __init__(self, config: CNNConfig, generator: torch.Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((config.channels, *config.widths)):
            layers.append(conv(before, after, config.kernel, bias=config.norm == "none"))
            # Pooled first, relu has a quarter to do, and the result is the same.
            layers += [norm(config.norm, after), nn.MaxPool2d(2), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        halvings = len(config.widths)
        num_features = (config.height >> halvings) * (config.width >> halvings) * config.widths[-1]
        self.dropout = Dropout(config.dropout, generator)
        self.classify = MLP(
            num_features,
            config.hidden,
            generator,
            num_outputs=len(config.classes),
            dropout=config.dropout,
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images).flatten(1)
        return torch.as_tensor(self.classify(self.dropout(features)))


@register_model
class CNN(ImageModel):
    """See the module."""

    name = "cnn"
    config_class = CNNConfig
    config: CNNConfig

    def build(self, generator: torch.Generator) -> nn.Module:
        """See `ImageModel.build`."""
        return _Network(self.config, generator)
