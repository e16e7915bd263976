"""Histories and their targets, cut out of a network's inputs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from weiml.config import nearest
from weiml.errors import ConfigError
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.sequence.config import SequenceConfig

__all__ = ["Histories", "History", "masked_softmax", "newest_first", "without_gaps"]


class History(NamedTuple):
    """The events of B examples, oldest first, and what they are compared with."""

    events: torch.Tensor
    """float32 (B, L, w); zeros where there is none."""
    mask: torch.Tensor
    """bool (B, L): where there is an event. An event whose key has no row is none."""
    target: torch.Tensor
    """float32 (B, w)."""


class Histories(nn.Module):
    """Cuts a network's inputs into its histories and all the rest.

    Args:
        config: names the sequences and their targets.
        shape: of the inputs.

    Raises:
        ConfigError: a target is no slot of the network, or a sequence.
    """

    columns: torch.Tensor

    def __init__(self, config: SequenceConfig, shape: NetworkShape) -> None:
        super().__init__()
        self._joined = config.joined
        self._targets = [_place(target, shape) for target in config.targets]
        self.count = 1 if config.joined else len(shape.sequences)
        """How many histories there are."""
        self.width = shape.row_dim * (len(shape.sequences) if config.joined else 1)
        """Numbers of an event: w."""
        kept = [slot not in shape.sequences for slot in shape.slots]
        columns = torch.tensor(kept).repeat_interleave(shape.row_dim)
        dense = torch.ones(len(shape.dense_names), dtype=torch.bool)
        places = torch.cat([columns, dense]).nonzero().squeeze(1)
        self.register_buffer("columns", places, persistent=False)
        self.num_rest = len(places)
        """Columns of the rest: R."""

    def forward(self, inputs: Inputs) -> tuple[list[History], torch.Tensor]:
        """Return (histories, the rest float32 (B, R): other slots' embeddings, dense columns)."""
        assert inputs.sequences is not None
        assert inputs.mask is not None
        embeddings = inputs.embeddings
        none = torch.zeros_like(embeddings[:, 0])
        targets = [none if at is None else embeddings[:, at] for at in self._targets]
        rest = inputs.flat.index_select(1, self.columns)
        if self._joined:
            events = inputs.sequences.transpose(1, 2).flatten(2)
            joined = History(events, inputs.mask.any(1), torch.cat(targets, 1))
            return [_shortened(joined)], rest
        parts = zip(inputs.sequences.unbind(1), inputs.mask.unbind(1), targets, strict=True)
        return [_shortened(History(*part)) for part in parts], rest


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the last axis of what the mask has; zeros where it has nothing."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), -1) * mask


def without_gaps(history: History) -> History:
    """Return a history whose events stand together at its beginning, in their order."""
    if not bool((history.mask[:, 1:] & ~history.mask[:, :-1]).any()):
        return history
    places = torch.arange(history.mask.shape[1], device=history.mask.device)
    return _reordered(history, torch.where(history.mask, places, len(places)))


def newest_first(history: History) -> History:
    """Return a history turned round: its last event stands first, no gaps."""
    places = torch.arange(history.mask.shape[1], device=history.mask.device)
    return _reordered(history, torch.where(history.mask, -places, 1))


def _reordered(history: History, ranks: torch.Tensor) -> History:
    order = ranks.argsort(dim=1, stable=True)
    events = history.events.gather(1, order.unsqueeze(2).expand_as(history.events))
    return history._replace(events=events, mask=history.mask.gather(1, order))


def _shortened(history: History) -> History:
    """Leave out the places behind the batch's longest history; one place stays."""
    used = history.mask.any(0).nonzero()
    longest = int(used[-1]) + 1 if len(used) else 1
    return history._replace(events=history.events[:, :longest], mask=history.mask[:, :longest])


def _place(target: str, shape: NetworkShape) -> int | None:
    """Return where the slot of a target stands; None for one without a counterpart."""
    if not target:
        return None
    known = [slot for slot in shape.slots if slot not in shape.sequences]
    if target not in known:
        raise ConfigError(
            f"targets: {target!r} is no slot of the candidate{nearest(target, known)}"
        )
    return shape.slots.index(target)
