"""What a network over embeddings is given: tensors of one batch, and their shape beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from weiml.models.deep.shape import InputShape

__all__ = ["Inputs", "NetworkShape"]


@dataclass(frozen=True, kw_only=True)
class NetworkShape(InputShape):
    """What a torch network is built for. Its layers draw from `generator` in training."""

    generator: torch.Generator


class Inputs(NamedTuple):
    """The tensors of a batch of B examples."""

    flat: torch.Tensor
    """float32 (B, S·d + D): the pooled embedding of each slot, then the dense columns."""
    linear: torch.Tensor | None
    """float32 (B,): Σ w_k x_k over the linear part's keys, None without one."""
    sequences: torch.Tensor | None
    """float32 (B, Q, L, d): rows of the sequences' keys, zeros behind a shorter one's end."""
    mask: torch.Tensor | None
    """bool (B, Q, L): where a sequence has a key."""
    shape: NetworkShape

    @property
    def embeddings(self) -> torch.Tensor:
        """(B, S, d), a view."""
        wide = len(self.shape.slots) * self.shape.row_dim
        # The sizes that are known are told, not the batch's: exported graphs keep it free.
        return torch.unflatten(self.flat[:, :wide], 1, (len(self.shape.slots), self.shape.row_dim))

    @property
    def dense(self) -> torch.Tensor:
        """(B, D), a view."""
        return self.flat[:, len(self.shape.slots) * self.shape.row_dim :]
