"""What a network over embeddings is given: tensors of one batch, and their shape beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

__all__ = ["Inputs", "NetworkShape"]


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """What a network is built for. Its layers draw from `generator` in training."""

    slots: tuple[str, ...]
    """S slots with a pooled embedding each."""
    row_dim: int
    """Numbers of an embedding row: d."""
    dense_names: tuple[str, ...]
    """D dense columns."""
    sequences: tuple[str, ...]
    """Q of the slots, whose keys' rows are also given one by one, in their order."""
    max_length: int
    """L, the longest of them."""
    generator: torch.Generator

    @property
    def num_inputs(self) -> int:
        """Columns of `Inputs.flat`: S·d + D."""
        return len(self.slots) * self.row_dim + len(self.dense_names)


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
        return self.flat[:, :wide].reshape(len(self.flat), -1, self.shape.row_dim)

    @property
    def dense(self) -> torch.Tensor:
        """(B, D), a view."""
        return self.flat[:, len(self.shape.slots) * self.shape.row_dim :]
