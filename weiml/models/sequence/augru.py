"""AUGRU: a GRU whose update gate is scaled by attention.

    u = sigmoid(W_u x + U_u h + b_u)        r = sigmoid(W_r x + U_r h + b_r)
    c = tanh(W_c x + b_c + r ∘ (U_c h))     h ← (1 - a u) ∘ h + a u ∘ c

So events that don't bear on the target, a near 0, leave the state h as it is. (Zhou et al., "Deep
interest evolution network for click-through rate prediction", AAAI 2019.)
"""

from __future__ import annotations

import torch
from torch import nn

from weiml.models.deep.linear import Linear

__all__ = ["AUGRU"]


class AUGRU(nn.Module):
    """See the module.

    Args:
        num_inputs: n, columns of x.
        num_states: m, numbers of h.
    """

    def __init__(self, num_inputs: int, num_states: int) -> None:
        super().__init__()
        self.inputs = Linear(num_inputs, 3 * num_states)
        self.states = Linear(num_states, 3 * num_states, bias=False)
        for parameter in self.parameters():  # as torch's own GRU
            nn.init.uniform_(parameter, -(num_states**-0.5), num_states**-0.5)

    def forward(self, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Return the last state (B, m) of x (B, L, n) and attention (B, L); 0 holds the state."""
        gates = self.inputs(x)
        h = torch.zeros_like(gates[:, 0, : self.states.in_features])
        for given, a in zip(gates.unbind(1), attention.unsqueeze(2).unbind(1), strict=True):
            update, reset, candidate = given.chunk(3, 1)
            own_update, own_reset, own = self.states(h).chunk(3, 1)
            u = a * torch.sigmoid(update + own_update)
            r = torch.sigmoid(reset + own_reset)
            h = h + u * (torch.tanh(candidate + r * own) - h)
        return h
