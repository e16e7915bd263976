"""Deep Interest Evolution Network: interests are drawn from a history and followed over time.

    h_1 … h_L = GRU(e_1 … e_L)                    interests
    a_j = softmax_j(h_j · W t)                    which of them bear on the candidate
    logit = MLP([rest ‖ AUGRU(h, a)])             how those evolve

Beside the log-loss an auxiliary one teaches each h_j to tell the event that follows from another:

    L_aux = -mean_j (ln sigmoid(h_j · e_{j+1}) + ln sigmoid(-h_j · ê_{j+1}))

(Zhou et al., "Deep interest evolution network for click-through rate prediction", AAAI 2019.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from weiml.errors import ConfigError
from weiml.models.deep.base import DeepModel
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.deep.linear import Linear
from weiml.models.registry import register_model
from weiml.models.sequence.augru import AUGRU
from weiml.models.sequence.config import SequenceConfig
from weiml.models.sequence.dice import HistoryActivation, history_activation
from weiml.models.sequence.histories import Histories, History, masked_softmax, without_gaps

__all__ = ["DIEN", "DIENConfig", "InterestEvolution", "next_event_loss"]


@dataclass(frozen=True, kw_only=True)
class DIENConfig(SequenceConfig):
    """Shape of the network, and how much the auxiliary loss counts."""

    name: Literal["dien"] = "dien"
    hidden: tuple[int, ...] = (200, 80)
    activation: HistoryActivation = "dice"
    """Of the MLP."""
    auxiliary: float = 1.0
    """What the auxiliary loss is multiplied by; 0: there is none."""
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.auxiliary >= 0:
            raise ConfigError(f"auxiliary must not be negative, got {self.auxiliary}")


class InterestEvolution(nn.Module):
    """GRU, attention and AUGRU over one history."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.extract = nn.GRU(width, width, batch_first=True)
        self.attend = Linear(width, width, bias=False)
        self.evolve = AUGRU(width, width)

    def forward(self, history: History) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (last state (B, w), interests (B, L, w)) of a history without gaps."""
        interests, _ = self.extract(history.events)
        scores = torch.einsum("blw,bw->bl", interests, self.attend(history.target))
        return self.evolve(interests, masked_softmax(scores, history.mask)), interests


def next_event_loss(
    interests: torch.Tensor, history: History, generator: torch.Generator
) -> torch.Tensor:
    """Return the auxiliary loss of each example (B,), the mean over its steps; 0 without any.

    The other events ê are drawn from all of the batch.
    """
    events, mask = history.events, history.mask
    all_events = events[mask]
    follows = mask[:, 1:]
    if not bool(follows.any()):
        return interests.new_zeros(len(mask))
    draw = torch.randint(len(all_events), (int(follows.sum()),), generator=generator)
    state = interests[:, :-1][follows]
    right = (state * events[:, 1:][follows]).sum(1)
    wrong = (state * all_events[draw.to(events.device)]).sum(1)
    losses = functional.softplus(-right.float()) + functional.softplus(wrong.float())
    sums = losses.new_zeros(follows.shape).masked_scatter(follows, losses).sum(1)
    return sums / follows.sum(1).clamp(min=1)


class _Network(nn.Module):
    def __init__(self, config: DIENConfig, shape: NetworkShape) -> None:
        super().__init__()
        self._auxiliary = config.auxiliary
        self._generator = shape.generator
        self.histories = Histories(config, shape)
        count, width = self.histories.count, self.histories.width
        self.evolutions = nn.ModuleList(InterestEvolution(width) for _ in range(count))
        self.mlp = MLP(
            self.histories.num_rest + count * width,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            act=history_activation(config.activation),
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        histories, rest = self.histories(inputs)
        states, losses = [], []
        for evolution, gapped in zip(self.evolutions, histories, strict=True):
            history = without_gaps(gapped)
            state, interests = evolution(history)
            states.append(state)
            if self.training and self._auxiliary:
                losses.append(next_event_loss(interests, history, self._generator))
        logits = self.mlp(torch.cat([rest, *states], 1)).squeeze(1)
        return (logits, self._auxiliary * torch.stack(losses).sum(0)) if losses else logits


@register_model
class DIEN(DeepModel):
    """See the module."""

    name = "dien"
    config_class = DIENConfig
    config: DIENConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
