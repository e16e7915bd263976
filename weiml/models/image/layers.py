"""Layers that image networks are made of."""

from __future__ import annotations

import math

from torch import nn

from weiml.models.image.config import Norm

__all__ = ["conv", "norm"]

_GROUPS = 8


def conv(
    num_inputs: int,
    num_outputs: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Return a convolution that keeps the image's size, but for its stride.

    Its weights are He's normal ones (He et al., "Delving deep into rectifiers", ICCV 2015).
    """
    layer = nn.Conv2d(
        num_inputs, num_outputs, size, stride, padding=size // 2, groups=groups, bias=bias
    )
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def norm(kind: Norm, channels: int) -> nn.Module:
    """Return what normalises activations (B, channels, H, W), with a scale and a shift a channel.

    "group" is group normalisation (Wu and He, ECCV 2018) in up to 8 groups, "batch" batch
    normalisation (Ioffe and Szegedy, ICML 2015).
    """
    if kind == "group":
        return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.Identity()
