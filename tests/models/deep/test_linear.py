"""The linear layer equals float64 products, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from weiml.models.deep.linear import Linear


def drawn(
    num_inputs: int, num_outputs: int, *shape: int, bias: bool
) -> tuple[Linear, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(num_inputs)
    layer = Linear(num_inputs, num_outputs, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(*shape, num_inputs, generator=generator, requires_grad=True)
    return layer, [x, torch.randn(*shape, num_outputs, generator=generator)]


def learned(layer: nn.Linear, x: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
    """Return the outputs and the gradients of the inputs and parameters."""
    leaves = [x.detach().clone().requires_grad_(), *layer.parameters()]
    outputs = layer(leaves[0])
    torch.autograd.backward(outputs, gradient, inputs=leaves)
    found = [outputs.detach(), *(leaf.grad for leaf in leaves)]
    return [tensor for tensor in found if tensor is not None]


@given(
    num_inputs=st.integers(1, 40),
    num_outputs=st.integers(1, 40),
    rows=st.sampled_from([1, 63, 64, 300]),
    groups=st.sampled_from([None, 1, 3]),
    bias=st.booleans(),
)
def test_it_equals_the_product_in_float64(
    num_inputs: int, num_outputs: int, rows: int, groups: int | None, bias: bool
) -> None:
    shape = (rows,) if groups is None else (groups, rows)
    layer, (x, gradient) = drawn(num_inputs, num_outputs, *shape, bias=bias)
    exact = nn.Linear(num_inputs, num_outputs, bias=bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    expected = learned(exact, x.double(), gradient.double())
    for found, wanted in zip(learned(layer, x, gradient), expected, strict=True):
        scale = float(wanted.abs().max()) + 1.0
        assert found.shape == wanted.shape
        assert float((found.double() - wanted).abs().max()) < 2e-5 * scale


def test_views_of_other_strides_are_read_as_they_are() -> None:
    layer, (x, gradient) = drawn(24, 16, 100, bias=True)
    wide = torch.zeros(100, 60)
    wide[:, 7:55:2] = x.detach()
    for found, wanted in zip(
        learned(layer, wide[:, 7:55:2], gradient), learned(layer, x, gradient), strict=True
    ):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_no_examples_have_no_outputs() -> None:
    layer, (x, gradient) = drawn(24, 16, 0, bias=True)
    outputs, of_inputs, of_weights, of_bias = learned(layer, x, gradient)
    assert outputs.shape == (0, 16)
    assert of_inputs.shape == (0, 24)
    assert not of_weights.any()
    assert not of_bias.any()


@pytest.mark.parametrize("rows", [1, 500])
def test_it_multiplies_in_bfloat16_where_it_is_told_to(rows: int) -> None:
    layer, (x, _) = drawn(24, 16, rows, bias=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = layer(x)
    assert outputs.dtype == torch.bfloat16
    assert torch.allclose(outputs.float(), layer(x), atol=0.2)


def test_it_learns_alike_while_scores_are_computed() -> None:
    layer, (x, _) = drawn(24, 16, 500, bias=True)
    with torch.inference_mode():
        scores = layer(x)
    assert torch.equal(scores, layer(x).detach())
