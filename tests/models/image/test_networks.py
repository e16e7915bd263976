"""The networks are those of the papers: plain formulas give the same, and published sizes hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.image import cnn, dpn, resnet
from weiml.models.image.layers import norm

Array = np.ndarray


def weights_of(module: nn.Module) -> dict[str, Array]:
    return {name: p.detach().numpy().astype(np.float64) for name, p in module.named_parameters()}


def convolve(x: Array, kernel: Array, stride: int = 1, groups: int = 1) -> Array:
    """Convolve x (C, H, W) with kernel (O, C / groups, k, k), one output pixel after the other."""
    outputs, depth, k, _ = kernel.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    height, width = ((side - 1) // stride + 1 for side in x.shape[1:])
    out = np.empty((outputs, height, width))
    for o, i, j in np.ndindex(out.shape):
        first = o // (outputs // groups) * depth
        seen = padded[first : first + depth, i * stride : i * stride + k, j * stride :][:, :, :k]
        out[o, i, j] = np.sum(seen * kernel[o])
    return out


def scaled(x: Array, w: dict[str, Array], layer: str) -> Array:
    """Batch normalisation as it is before training: of mean 0 and variance 1."""
    return np.asarray(x / np.sqrt(1 + 1e-5) * w[f"{layer}.weight"][:, None, None])


def relu(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0))


def assert_same(module: nn.Module, expected: Callable[[Array, dict[str, Array]], Array],
                channels: int) -> None:  # fmt: skip
    """A module in evaluation maps (2, channels, 6, 5) as the formula does each image."""
    torch.manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    module.eval()
    x = torch.randn(2, channels, 6, 5)
    with torch.inference_mode():
        found = module(x).numpy()
    w = weights_of(module)
    for one, image in zip(found, x.numpy().astype(np.float64), strict=True):
        np.testing.assert_allclose(one, expected(image, w), rtol=1e-4, atol=1e-4)


def test_a_cnn_is_convolutions_maxima_and_dense_layers() -> None:
    config = cnn.CNNConfig(
        height=6, width=5, channels=2, widths=(3, 4), kernel=3, hidden=(5,), classes=("a", "b")
    )

    def expected(x: Array, w: dict[str, Array]) -> Array:
        for layer in (0, 4):
            x = convolve(x, w[f"features.{layer}.weight"])
            x = relu(x + w[f"features.{layer}.bias"][:, None, None])
            rows, columns = x.shape[1] // 2, x.shape[2] // 2  # an odd last row falls off
            x = x[:, : 2 * rows, : 2 * columns].reshape(-1, rows, 2, columns, 2).max((2, 4))
        h = relu(w["classify.layers.0.weight"] @ x.reshape(-1) + w["classify.layers.0.bias"])
        return np.asarray(w["classify.layers.3.weight"] @ h + w["classify.layers.3.bias"])

    assert_same(cnn._Network(config, torch.Generator()), expected, 2)


@pytest.mark.parametrize(("after", "stride"), [(3, 1), (4, 1), (4, 2)])
def test_a_residual_block_adds_to_its_input(after: int, stride: int) -> None:
    def expected(x: Array, w: dict[str, Array]) -> Array:
        change = relu(scaled(convolve(x, w["change.0.weight"], stride), w, "change.1"))
        change = scaled(convolve(change, w["change.3.weight"]), w, "change.4")
        if (after, stride) != (3, 1):
            x = scaled(convolve(x, w["project.0.weight"], stride), w, "project.1")
        return relu(x + change)

    assert_same(resnet._Block(3, after, stride, "batch"), expected, 3)


@pytest.mark.parametrize("first", [True, False])
def test_a_dual_path_block_adds_on_one_path_and_appends_to_the_other(first: bool) -> None:
    config = dpn.DPNConfig(groups=2)
    stride = 2 if first else 1
    block = dpn._Block(10, 6, 2, 4, config, project=first, stride=stride)

    def layer(x: Array, w: dict[str, Array], at: str, stride: int = 1, groups: int = 1) -> Array:
        return convolve(relu(scaled(x, w, f"{at}.0")), w[f"{at}.2.weight"], stride, groups)

    def expected(x: Array, w: dict[str, Array]) -> Array:
        kept = layer(x, w, "project", stride) if first else x
        change = layer(x, w, "change.0")
        change = layer(change, w, "change.1", stride, groups=2)
        change = layer(change, w, "change.2")
        residual, dense = kept[:6], kept[6:]
        assert len(dense) == 4
        return np.concatenate([residual + change[:6], dense, change[6:]])

    assert_same(block, expected, 10)


def sizes(network: type[nn.Module], config: Any) -> int:
    with torch.device("meta"):  # shapes, no memory
        module = network(config, torch.Generator())
    return sum(p.numel() for p in module.parameters())


PHOTOS: dict[str, Any] = {"channels": 3, "height": 224, "width": 224, "stem": "large"}
THOUSAND = tuple(map(str, range(1000)))


def test_published_numbers_of_parameters() -> None:
    config = resnet.ResNetConfig(**PHOTOS, classes=THOUSAND)
    assert sizes(resnet._Network, config) == 11_689_512  # ResNet-18
    config = replace(config, blocks=(3, 4, 6, 3))
    assert sizes(resnet._Network, config) == 21_797_672  # ResNet-34
    dpn_92 = dpn.DPNConfig(
        **PHOTOS,
        classes=THOUSAND,
        stem_width=64,
        blocks=(3, 4, 20, 3),
        residual_width=256,
        increments=(16, 32, 24, 128),
        group_width=96,
        groups=32,
    )
    assert sizes(dpn._Network, dpn_92) == 37_668_392


def test_group_norms_do_not_see_other_examples() -> None:
    layer = norm("group", 12)
    x = torch.randn(4, 12, 3, 3)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == 4  # the most of up to 8 that divide 12


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cnn.CNNConfig(kernel=4), "kernel must be odd"),
        (lambda: cnn.CNNConfig(widths=()), "widths and hidden must be at least 1"),
        (lambda: cnn.CNNConfig(widths=(1, 0)), "widths and hidden must be at least 1"),
        (lambda: cnn.CNNConfig(height=7), "3 widths halve an image of 7 x 28 to nothing"),
        (lambda: resnet.ResNetConfig(blocks=(2, 0)), "blocks must be at least 1"),
        (lambda: dpn.DPNConfig(blocks=(2, 2)), "increments must be one a stage, 2"),
        (lambda: dpn.DPNConfig(groups=5), "multiple of groups = 5, got 32"),
        (lambda: dpn.DPNConfig(stem_width=0), "must be at least 1"),
    ],
)
def test_knobs_out_of_range_are_told(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
