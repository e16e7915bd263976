"""Gates mix experts by shares that sum up to 1."""

from __future__ import annotations

import numpy as np
import torch

from weiml.models.multitask.experts import Experts, Gate


def test_a_mixture_equals_a_loop() -> None:
    torch.manual_seed(0)
    experts = Experts(3, 4, (5, 2), torch.Generator(), dropout=0.0, batch_norm=False)
    gate = Gate(4, 3)
    x = torch.randn(6, 4)
    found = gate(x, experts(x)).detach().numpy()
    W, b = (p.detach().numpy().astype(float) for p in gate.parameters())
    for i in range(6):
        scores = np.exp(W @ x[i].numpy() + b)
        outputs = [e(x[i : i + 1])[0].detach().numpy() for e in experts.experts]
        expected = sum(s * o for s, o in zip(scores / scores.sum(), outputs, strict=True))
        np.testing.assert_allclose(found[i], expected, atol=1e-6)
