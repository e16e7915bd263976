"""Deep Interest Network: each event of a history counts by how it bears on the candidate.

    logit = MLP([rest ‖ Σ_j a(e_j, t) e_j for each history])
    a(e, t) = MLP([e ‖ t ‖ e - t ‖ e ∘ t])

(Zhou et al., "Deep interest network for click-through rate prediction", KDD 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.models.deep.base import DeepModel
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.registry import register_model
from weiml.models.sequence.config import SequenceConfig
from weiml.models.sequence.dice import HistoryActivation, history_activation
from weiml.models.sequence.histories import Histories, History, masked_softmax

__all__ = ["DIN", "DINConfig", "LocalActivation"]


@dataclass(frozen=True, kw_only=True)
class DINConfig(SequenceConfig):
    """Shape of the network and of the activation unit."""

    name: Literal["din"] = "din"
    hidden: tuple[int, ...] = (200, 80)
    attention_hidden: tuple[int, ...] = (36,)
    """Hidden sizes of the unit a."""
    activation: HistoryActivation = "dice"
    """Of both."""
    normalise: bool = False
    """Whether the weights of a history sum up to 1 (a softmax). The paper's don't, so that a
    history with much of what the candidate is weighs more."""
    batch_norm: bool = False


class LocalActivation(nn.Module):
    """The unit a: what each event weighs before a target."""

    def __init__(self, width: int, config: DINConfig, generator: torch.Generator) -> None:
        super().__init__()
        self._normalise = config.normalise
        act = history_activation(config.activation)
        self.mlp = MLP(4 * width, config.attention_hidden, generator, act=act)

    def forward(self, history: History) -> torch.Tensor:
        """Return (B, L) weights, 0 where there is no event; only events are computed."""
        events, mask, target = history
        e = events[mask]
        t = target.unsqueeze(1).expand_as(events)[mask]
        found = self.mlp(torch.cat([e, t, e - t, e * t], 1)).squeeze(1)
        weights = found.new_zeros(mask.shape).masked_scatter(mask, found)
        return masked_softmax(weights, mask) if self._normalise else weights


class _Network(nn.Module):
    def __init__(self, config: DINConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.histories = Histories(config, shape)
        count, width = self.histories.count, self.histories.width
        self.units = nn.ModuleList(
            LocalActivation(width, config, shape.generator) for _ in range(count)
        )
        self.mlp = MLP(
            self.histories.num_rest + count * width,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            act=history_activation(config.activation),
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        histories, rest = self.histories(inputs)
        interests = [
            torch.einsum("bl,blw->bw", unit(history), history.events)
            for unit, history in zip(self.units, histories, strict=True)
        ]
        return self.mlp(torch.cat([rest, *interests], 1)).squeeze(1)


@register_model
class DIN(DeepModel):
    """See the module."""

    name = "din"
    config_class = DINConfig
    config: DINConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
