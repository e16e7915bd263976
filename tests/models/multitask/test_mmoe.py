"""MMoE: with one expert it is a shared bottom; each task has a gate of its own."""

from __future__ import annotations

from typing import Any

import torch

from weiml.models import MMoEConfig
from weiml.models.deep import Inputs, NetworkShape
from weiml.models.multitask.mmoe import _Network

SHAPE = NetworkShape(
    slots=("user", "item"),
    row_dim=3,
    dense_names=("age",),
    sequences=(),
    max_length=1,
    generator=torch.Generator(),
)


def test_tasks_mix_the_same_experts_by_gates_of_their_own() -> None:
    torch.manual_seed(0)
    config = MMoEConfig(tasks=("a", "b", "c"), experts=4, hidden=(6, 5), tower=(3,))
    network: Any = _Network(config, SHAPE)
    x = torch.randn(8, 7)
    found = network(Inputs(x, None, None, None, SHAPE))
    assert found.shape == (8, 3)
    outputs = [expert(x) for expert in network.experts.experts]
    for task, (gate, tower) in enumerate(zip(network.gates, network.towers.towers, strict=True)):
        shares = torch.softmax(x @ gate.linear.weight.T + gate.linear.bias, 1)
        mixed = sum(shares[:, e : e + 1] * output for e, output in enumerate(outputs))
        torch.testing.assert_close(found[:, task], tower(mixed)[:, 0])


def test_one_expert_is_a_shared_bottom() -> None:
    network: Any = _Network(MMoEConfig(tasks=("a",), experts=1, hidden=(6,), tower=()), SHAPE)
    x = torch.randn(8, 7)
    expected = network.towers.towers[0](network.experts.experts[0](x))
    torch.testing.assert_close(network(Inputs(x, None, None, None, SHAPE)), expected)
