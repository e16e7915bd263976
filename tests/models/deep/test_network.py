"""The flat network equals torch's own layers and AdamW."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from weiml.models.network import DenseNetwork

from weiml.errors import DataError


def make(**values: float) -> DenseNetwork:
    settings = {"lr": 0.01, "weight_decay": 0.1, "dropout": 0.0, **values}
    return DenseNetwork(5, (7, 3), seed=2, dropout_seed=4, **settings)


def layers(network: DenseNetwork) -> torch.nn.Sequential:
    twin = torch.nn.Sequential(
        torch.nn.Linear(5, 7),
        torch.nn.ReLU(),
        torch.nn.Linear(7, 3),
        torch.nn.ReLU(),
        torch.nn.Linear(3, 1),
    )
    tensors = network.tensors().values()
    with torch.no_grad():
        for parameter, tensor in zip(twin.parameters(), tensors, strict=True):
            parameter.copy_(torch.from_numpy(tensor))
    return twin


def train(network: DenseNetwork, x: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        torch.autograd.backward(network.forward(x, training=True).square().sum())
        network.apply(network.gradient())


def test_it_equals_torchs_layers_and_optimizer() -> None:
    network = make()
    twin = layers(network)
    x = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.forward(x), twin(x).squeeze(1))
    adam = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        adam.zero_grad()
        torch.autograd.backward(twin(x).square().sum())
        adam.step()
    train(network, x, 5)
    for mine, theirs in zip(network.tensors().values(), twin.parameters(), strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-6)


def test_training_goes_on_bit_equally_from_its_state() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    whole = make(dropout=0.4)
    train(whole, x, 3)
    resumed = make(dropout=0.4)
    vector = np.concatenate([t.reshape(-1) for t in whole.tensors().values()])
    resumed.set_vector(vector)
    resumed.set_state(whole.state())
    train(whole, x, 3)
    train(resumed, x, 3)
    for mine, theirs in zip(whole.tensors().values(), resumed.tensors().values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_dropout_acts_in_training_only() -> None:
    network = make(dropout=0.5)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    plain = network.forward(x).detach()
    torch.testing.assert_close(network.forward(x).detach(), plain)
    assert not torch.equal(network.forward(x, training=True), plain)


def test_scaling_the_learning_rate_to_zero_stops_it() -> None:
    network = make(weight_decay=0.0)
    before = network.tensors()
    network.scale_lr(0.0)
    train(network, torch.ones(3, 5), 2)
    for mine, theirs in zip(network.tensors().values(), before.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="has 70 parameters"):
        make().set_vector(np.zeros(3, np.float32))


def test_dropout_keeps_the_expectation() -> None:
    values = make(dropout=0.3)._mask(torch.empty(20_000))
    assert set(np.unique(values.numpy()).round(4)) == {0.0, np.float32(1 / 0.7).round(4)}
    assert float(values.mean()) == pytest.approx(1.0, abs=0.02)
