"""FinalMLP: two networks on inputs that two gates weigh differently, and a bilinear form of both.

    x = [e_s for slots s] ‖ dense,  x_i = 2 sigmoid(gate_i(c_i)) ⊙ x,  o_i = MLP_i(x_i)
    logit = b + w_1ᵀ o_1 + w_2ᵀ o_2 + Σ_h o_1hᵀ W_h o_2h

The context c_i of a gate is the embeddings of some slots, or a vector of the network's own; o_ih is
the part of o_i that belongs to head h.

(Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.config import nearest
from weiml.errors import ConfigError
from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP, he_linear
from weiml.models.deep.sizes import check_sizes
from weiml.models.registry import register_model

__all__ = ["BilinearFusion", "FeatureGate", "FinalMLP", "FinalMLPConfig"]


@dataclass(frozen=True, kw_only=True)
class FinalMLPConfig(DeepConfig):
    """Shape of the network."""

    name: Literal["final_mlp"] = "final_mlp"
    hidden: tuple[int, ...] = (256, 128, 64)
    """Of the first stream."""
    second_hidden: tuple[int, ...] = (256, 64)
    """Of the second."""
    num_heads: int = 8
    """Of the bilinear form; both streams' last sizes must be multiples."""
    gated: bool = True
    """Whether the streams' inputs are weighed; without it they get the same."""
    gate_slots: tuple[str, ...] = ()
    """Slots, of those with embeddings, that the first gate looks at, such as the user's; none: its
    weights are the same for all examples."""
    second_gate_slots: tuple[str, ...] = ()
    """Those of the second gate, such as the item's."""
    gate_hidden: tuple[int, ...] = (64,)
    """Of both gates."""
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "second_hidden", "num_heads", "gate_hidden")
        for knob in ("hidden", "second_hidden"):
            sizes = getattr(self, knob)
            if not sizes or sizes[-1] % self.num_heads:
                raise ConfigError(
                    f"{knob} must end with a multiple of num_heads = {self.num_heads}, got {sizes}"
                )


class FeatureGate(nn.Module):
    """``2 sigmoid(MLP(c)) ⊙ x``: about x at first, for the MLP's outputs are about 0.

    Args:
        shape: the network's.
        slots: whose embeddings are the context; none: a vector that is learned.
        hidden: of the MLP.
        knob: that names the slots.
    """

    def __init__(
        self, shape: NetworkShape, slots: tuple[str, ...], hidden: tuple[int, ...], knob: str
    ) -> None:
        super().__init__()
        for slot in slots:
            if slot not in shape.slots:
                raise ConfigError(
                    f"{knob}: {slot!r} is no slot with embeddings{nearest(slot, shape.slots)}"
                )
        self.places = [shape.slots.index(slot) for slot in slots]
        self.context = None if slots else nn.Parameter(torch.randn(1, shape.row_dim) * 0.01)
        size = max(1, len(slots)) * shape.row_dim
        self.mlp = MLP(size, hidden, shape.generator, num_outputs=shape.num_inputs)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Return (B, S·d + D)."""
        context: torch.Tensor | None = self.context
        if context is None:
            context = torch.cat([inputs.embeddings[:, s] for s in self.places], 1)
        return 2.0 * torch.sigmoid(self.mlp(context)) * inputs.flat


class BilinearFusion(nn.Module):
    """``b + w_1ᵀ x + w_2ᵀ y + Σ_h x_hᵀ W_h y_h``: (B, m) and (B, n) to (B,)."""

    def __init__(self, first: int, second: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.linear = he_linear(first + second, 1, relu=False)
        sizes = first // num_heads, second // num_heads
        self.weight = nn.Parameter(torch.empty(num_heads, *sizes))
        nn.init.normal_(self.weight, std=(2.0 / sum(sizes)) ** 0.5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        heads = (len(x), self.num_heads, -1)
        projected = torch.einsum("bhm,hmn->bhn", x.view(heads), self.weight)
        products = (projected * y.view(heads)).sum((1, 2))
        return torch.as_tensor(self.linear(torch.cat([x, y], 1))).squeeze(1) + products


class _Network(nn.Module):
    def __init__(self, config: FinalMLPConfig, shape: NetworkShape) -> None:
        super().__init__()
        slots = {"gate_slots": config.gate_slots, "second_gate_slots": config.second_gate_slots}
        self.gates = nn.ModuleList(
            FeatureGate(shape, chosen, config.gate_hidden, knob)
            for knob, chosen in slots.items()
            if config.gated
        )
        self.streams = nn.ModuleList(
            MLP(
                shape.num_inputs,
                hidden,
                shape.generator,
                num_outputs=None,
                dropout=config.dropout,
                batch_norm=config.batch_norm,
            )
            for hidden in (config.hidden, config.second_hidden)
        )
        self.fusion = BilinearFusion(config.hidden[-1], config.second_hidden[-1], config.num_heads)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        gated = [gate(inputs) for gate in self.gates] or [inputs.flat, inputs.flat]
        outputs = [stream(x) for stream, x in zip(self.streams, gated, strict=True)]
        return torch.as_tensor(self.fusion(*outputs))


@register_model
class FinalMLP(DeepModel):
    """See the module."""

    name = "final_mlp"
    config_class = FinalMLPConfig
    config: FinalMLPConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
