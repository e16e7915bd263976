"""Behavior Sequence Transformer: history and candidate attend to one another.

    X = [t ‖ e_L … e_1] + P                        P: learned for each place, 0 the candidate's
    X ← LN(X + attention(X))   X ← LN(X + FFN(X))  `blocks` times
    logit = MLP([rest ‖ X_0])                      or all of X

(Chen et al., "Behavior sequence transformer for e-commerce recommendation in Alibaba", DLP-KDD
2019; the attention is that of Vaswani et al., NIPS 2017.)
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
from weiml.models.deep.layers import MLP, Dropout
from weiml.models.deep.linear import Linear
from weiml.models.registry import register_model
from weiml.models.sequence.config import SequenceConfig
from weiml.models.sequence.histories import Histories, History, newest_first

__all__ = ["BST", "BSTConfig", "TransformerBlock"]


@dataclass(frozen=True, kw_only=True)
class BSTConfig(SequenceConfig):
    """Shape of the transformer and of the network over it."""

    name: Literal["bst"] = "bst"
    hidden: tuple[int, ...] = (256, 128, 64)
    heads: int = 4
    """Of the attention; they must divide an event's numbers."""
    blocks: int = 1
    """Transformer blocks; the paper found one to be best."""
    readout: Literal["target", "all"] = "target"
    """What the MLP gets of the transformer: its output at the candidate's place, or at all places,
    as in the paper, which takes far more examples to learn."""
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob in ("heads", "blocks"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")


class TransformerBlock(nn.Module):
    """Self-attention of several heads and a feed-forward net, both with a shortcut and LayerNorm.

    Args:
        width: w, numbers of an element.
        heads: they divide w.
        dropout: share of both parts' outputs set to 0 in training.
        generator: of dropout.
    """

    def __init__(self, width: int, heads: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self._heads = heads
        self.project = Linear(width, 3 * width)
        self.merge = Linear(width, width)
        self.feed_forward = nn.Sequential(
            Linear(width, 4 * width), nn.LeakyReLU(), Linear(4 * width, width)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.dropout = Dropout(dropout, generator)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, M, w) of x (B, M, w); nothing attends to where mask (B, M) is False."""
        parts = self.project(x).unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(
            parts[0], parts[1], parts[2], attn_mask=mask[:, None, None, :]
        )
        merged = self.merge(found.transpose(1, 2).flatten(2))
        x = self.norms[0](x + self.dropout(merged))
        return torch.as_tensor(self.norms[1](x + self.dropout(self.feed_forward(x))))


class _Transformer(nn.Module):
    """The blocks over one history and its target, and the learned places."""

    def __init__(self, width: int, config: BSTConfig, shape: NetworkShape) -> None:
        super().__init__()
        self._readout = config.readout
        self.places = nn.Parameter(torch.randn(shape.max_length + 1, width) * config.init_scale)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.heads, config.dropout, shape.generator)
            for _ in range(config.blocks)
        )
        self.num_outputs = width if config.readout == "target" else self.places.numel()

    def forward(self, history: History) -> torch.Tensor:
        """Return (B, num_outputs); zeros at places that a history does not reach."""
        events, mask, target = newest_first(history)
        x = torch.cat([target.unsqueeze(1), events], 1)
        mask = functional.pad(mask, (1, 0), value=True)
        x = x + self.places[: x.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        if self._readout == "target":
            return x[:, 0]
        beyond = len(self.places) - x.shape[1]
        return functional.pad(x * mask.unsqueeze(2), (0, 0, 0, beyond)).flatten(1)


class _Network(nn.Module):
    def __init__(self, config: BSTConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.histories = Histories(config, shape)
        width = self.histories.width
        if width % config.heads:
            raise ConfigError(
                f"heads must divide an event's {width} numbers (embedding_dim, times the number of "
                f"sequences if they are joined), got {config.heads}"
            )
        self.transformers = nn.ModuleList(
            _Transformer(width, config, shape) for _ in range(self.histories.count)
        )
        outputs = sum(part.num_outputs for part in self.transformers)  # type: ignore[misc]
        self.mlp = MLP(
            self.histories.num_rest + int(outputs),
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        histories, rest = self.histories(inputs)
        found = [part(one) for part, one in zip(self.transformers, histories, strict=True)]
        return self.mlp(torch.cat([rest, *found], 1)).squeeze(1)


@register_model
class BST(DeepModel):
    """See the module."""

    name = "bst"
    config_class = BSTConfig
    config: BSTConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
