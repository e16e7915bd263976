"""AUGRU against a loop in float64, and against torch's GRU where attention is 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from weiml.models.sequence.augru import AUGRU


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def test_it_equals_its_equations() -> None:
    torch.manual_seed(0)
    cell = AUGRU(3, 2).double()
    x, attention = torch.randn(5, 4, 3).double(), torch.rand(5, 4).double()
    W, b = cell.inputs.weight.detach().numpy(), cell.inputs.bias.detach().numpy()
    U = cell.states.weight.detach().numpy()
    found = cell(x, attention).detach().numpy()
    for i in range(5):
        h = np.zeros(2)
        for t in range(4):
            e, a = x[i, t].numpy(), float(attention[i, t])
            u = sigmoid(W[0:2] @ e + U[0:2] @ h + b[0:2])
            r = sigmoid(W[2:4] @ e + U[2:4] @ h + b[2:4])
            c = np.tanh(W[4:6] @ e + b[4:6] + r * (U[4:6] @ h))
            h = (1 - a * u) * h + a * u * c
        np.testing.assert_allclose(found[i], h, atol=1e-12)


def test_with_attention_it_is_a_gru_and_without_it_holds_its_state() -> None:
    torch.manual_seed(0)
    cell = AUGRU(3, 2)
    gru: Any = torch.nn.GRU(3, 2, batch_first=True)
    W, U, b = cell.inputs.weight, cell.states.weight, cell.inputs.bias
    turned = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0])  # torch's z is 1 - u
    order = [2, 3, 0, 1, 4, 5]  # torch's gates are r, z, n
    with torch.no_grad():
        gru.weight_ih_l0.copy_((W * turned[:, None])[order])
        gru.weight_hh_l0.copy_((U * turned[:, None])[order])
        gru.bias_ih_l0.copy_((b * turned)[order])
        gru.bias_hh_l0.zero_()
        x = torch.randn(6, 5, 3)
        last = gru(x)[0][:, -1]
        torch.testing.assert_close(cell(x, torch.ones(6, 5)), last)
        attention = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]).expand(6, 5)
        torch.testing.assert_close(cell(x, attention), cell(x[:, :2], torch.ones(6, 2)))
        assert not cell(x, torch.zeros(6, 5)).any()
