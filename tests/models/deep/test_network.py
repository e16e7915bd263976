"""The flat network equals torch's own layers and optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weiml.errors import DataError
from weiml.models.deep.layers import MLP, Dropout
from weiml.models.deep.network import Network, torch_threads


def make(*, dropout: float = 0.0, batch_norm: bool = False, **values: Any) -> Network:
    generator = torch.Generator().manual_seed(4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        module = MLP(5, (7, 3), generator, dropout=dropout, batch_norm=batch_norm)
    return Network(module, generator, **({"lr": 0.01, "weight_decay": 0.1} | values))


def twin_of(network: Network) -> nn.Sequential:
    twin = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        for parameter, tensor in zip(twin.parameters(), network.tensors().values(), strict=True):
            parameter.copy_(torch.from_numpy(tensor))
    return twin


def backward(network: Network, x: torch.Tensor) -> None:
    with network.computing(training=True):
        torch.autograd.backward(network.module(x).square().sum())


def train(network: Network, x: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        backward(network, x)
        network.apply(network.gradient())


def outputs(network: Network, x: torch.Tensor, *, training: bool = False) -> torch.Tensor:
    with network.computing(training=training), torch.no_grad():
        return torch.as_tensor(network.module(x))


OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.5),
}


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_it_equals_torchs_layers_and_optimizer(optimizer: str) -> None:
    network = make(optimizer=optimizer, momentum=0.5 if optimizer == "sgd" else None)
    twin = twin_of(network)
    x = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(outputs(network, x), twin(x))
    rule = OPTIMIZERS[optimizer](twin.parameters())
    for _ in range(5):
        rule.zero_grad()
        torch.autograd.backward(twin(x).square().sum())
        rule.step()
    train(network, x, 5)
    for mine, theirs in zip(network.tensors().values(), twin.parameters(), strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_training_goes_on_bit_equally_from_its_state(optimizer: str) -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    options: dict[str, Any] = {"dropout": 0.4, "batch_norm": True, "optimizer": optimizer}
    whole = make(**options)
    train(whole, x, 3)
    resumed = make(**options)
    resumed.set_vector(np.concatenate([t.reshape(-1) for t in whole.tensors().values()]))
    resumed.set_state(whole.state())
    resumed.set_generator_state(whole.generator_state())
    train(whole, x, 3)
    train(resumed, x, 3)
    for mine, theirs in zip(whole.tensors().values(), resumed.tensors().values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_gradients_of_several_passes_add_up() -> None:
    network = make()
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    backward(network, x)
    whole = network.gradient().copy()
    network.forget()
    backward(network, x[:3])
    backward(network, x[3:])
    np.testing.assert_allclose(network.gradient(), whole, rtol=1e-5, atol=1e-6)


def test_long_gradients_are_clipped() -> None:
    network = make(optimizer="sgd", lr=1.0, weight_decay=0.0, clip_norm=0.5)
    before = np.concatenate([t.reshape(-1) for t in network.tensors().values()])
    network.apply(np.full(before.size, 3.0, np.float32))
    after = np.concatenate([t.reshape(-1) for t in network.tensors().values()])
    assert np.linalg.norm(after - before) == pytest.approx(0.5, rel=1e-5)


def test_statistics_travel_in_the_vector() -> None:
    network = make(batch_norm=True)
    names = list(network.tensors())
    assert [name for name in names if "running" in name] == names[-4:]
    before = network.tensors()
    outputs(network, torch.randn(9, 5, generator=torch.Generator().manual_seed(0)), training=True)
    assert not np.array_equal(network.tensors()[names[-1]], before[names[-1]])


def test_dropout_acts_in_training_only() -> None:
    network = make(dropout=0.5)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    plain = outputs(network, x)
    torch.testing.assert_close(outputs(network, x), plain)
    assert not torch.equal(outputs(network, x, training=True), plain)


def test_bfloat16_computes_nearly_the_same() -> None:
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    exact, half = outputs(make(), x), outputs(make(precision="bfloat16"), x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.05)


def test_the_learning_rate_is_scaled_for_good_and_scheduled_for_a_while() -> None:
    network = make(weight_decay=0.0)
    before = network.tensors()
    network.schedule_lr(0.0)
    train(network, torch.ones(3, 5), 2)
    for mine, theirs in zip(network.tensors().values(), before.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    network.scale_lr(0.5)
    assert network._optimizer.param_groups[0]["lr"] == 0.005
    network.schedule_lr(0.5)
    assert network._optimizer.param_groups[0]["lr"] == 0.0025


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="has 70 parameters"):
        make().set_vector(np.zeros(3, np.float32))


def test_dropout_keeps_the_expectation() -> None:
    layer = Dropout(0.3, torch.Generator().manual_seed(4))
    values = layer.train()(torch.ones(20_000))
    assert set(np.unique(values.numpy()).round(4)) == {0.0, np.float32(1 / 0.7).round(4)}
    assert float(values.mean()) == pytest.approx(1.0, abs=0.02)


def test_threads_are_set_inside_only() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
