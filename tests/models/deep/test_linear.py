"""The linear layer equals float64 products, whichever library multiplies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from weiml.models.deep import linear
from weiml.models.deep.layers import MLP
from weiml.models.deep.linear import Linear

HAS_MKL = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


@pytest.fixture(params=[False, True], ids=["MKL", "oneDNN"], autouse=True, scope="module")
def library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Multiply by either, whoever made this processor."""
    if request.param and not HAS_ONEDNN:
        pytest.skip("torch was built without oneDNN")
    before, linear._MKL_IS_SLOW = linear._MKL_IS_SLOW, request.param
    yield
    linear._MKL_IS_SLOW = before


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


def learned(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
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


def test_scores_are_those_of_training_but_for_rounding() -> None:
    layer, (x, _) = drawn(24, 16, 500, bias=True)
    with torch.inference_mode():
        scores = layer(x)
    assert torch.allclose(scores, layer(x).detach(), atol=1e-5)


def test_an_mlp_equals_its_layers_in_float64() -> None:
    mlp = MLP(64, (48, 16), torch.Generator(), num_outputs=1)
    exact = copy.deepcopy(mlp).double()
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(3))
    found, wanted = (
        learned(layers, leaf, torch.ones(100, 1, dtype=leaf.dtype))
        for layers, leaf in ((mlp, x), (exact, x.double()))
    )
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [10, 100])
def test_what_is_not_finite_stays_so(rows: int) -> None:
    mlp = MLP(64, (64, 64), torch.Generator(), num_outputs=1)
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(3))
    x[3, 5] = torch.nan
    outputs = learned(mlp, x, torch.ones(rows, 1))[0]
    assert outputs[3].isnan().all()
    assert outputs[:3].isfinite().all()
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.mul_(1e25)
    x[3, 5] = 0
    outputs, of_inputs, *_ = learned(mlp, x, torch.ones(rows, 1))
    assert not outputs.isfinite().any()
    assert not of_inputs.isfinite().all()


def test_no_inputs_leave_the_bias() -> None:
    layer = Linear(0, 16)
    assert torch.equal(layer(torch.zeros(100, 0)), layer.bias.expand(100, 16))


@pytest.mark.parametrize(
    ("info", "slow"),
    [
        ("processor : 0\nvendor_id\t: AuthenticAMD\nmodel name: x\n" * 2, True),
        ("processor : 0\nvendor_id\t: GenuineIntel\n", False),
        ("processor : 0\nCPU implementer : 0x41\n", False),
        (None, False),
    ],
)
def test_the_processors_maker_decides(info: str | None, slow: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    if info is not None:
        file.write_text(info)
    assert linear._mkl_is_slow(file) == (slow and HAS_MKL and HAS_ONEDNN)
