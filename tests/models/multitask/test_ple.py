"""PLE: two levels by hand, and who sees whose experts."""

from __future__ import annotations

from typing import Any

import torch

from tests.models.multitask.test_mmoe import SHAPE
from weiml.models import PLEConfig
from weiml.models.deep import Inputs
from weiml.models.multitask.ple import _Network

CONFIG = PLEConfig(
    tasks=("a", "b"), levels=2, shared_experts=2, task_experts=1, hidden=(6, 5), tower=(3,)
)


def mixed(gate: Any, x: torch.Tensor, outputs: list[torch.Tensor]) -> torch.Tensor:
    W, b = gate.parameters()
    shares = torch.softmax(x @ W.T + b, 1)
    return torch.stack([shares[:, e, None] * out for e, out in enumerate(outputs)]).sum(0)


def test_two_levels_equal_those_by_hand() -> None:
    torch.manual_seed(0)
    network: Any = _Network(CONFIG, SHAPE)
    x = torch.randn(8, 7)
    first, second = network.levels
    own_a, own_b, shared = ([e(x) for e in group.experts] for group in first.experts)
    a = mixed(first.gates[0], x, own_a + shared)
    b = mixed(first.gates[1], x, own_b + shared)
    common = mixed(first.shared_gate, x, own_a + own_b + shared)
    own_a, own_b, shared = (
        [e(given) for e in group.experts]
        for group, given in zip(second.experts, (a, b, common), strict=True)
    )
    a = mixed(second.gates[0], a, own_a + shared)
    b = mixed(second.gates[1], b, own_b + shared)
    expected = torch.cat([network.towers.towers[0](a), network.towers.towers[1](b)], 1)
    torch.testing.assert_close(network(Inputs(x, None, None, None, SHAPE)), expected)
    assert second.shared_gate is None  # nothing is above it


def test_a_tasks_own_experts_learn_nothing_of_the_other_in_one_level() -> None:
    config = PLEConfig(tasks=("a", "b"), levels=1, hidden=(6,), tower=())
    network: Any = _Network(config, SHAPE)
    logits = network(Inputs(torch.randn(8, 7), None, None, None, SHAPE))
    logits[:, 0].sum().backward()
    own_a, own_b, shared = network.levels[0].experts
    assert all(p.grad is not None for p in (*own_a.parameters(), *shared.parameters()))
    gradients = [p.grad for p in own_b.parameters()]
    assert all(gradient is None or not gradient.any() for gradient in gradients)
