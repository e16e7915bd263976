"""The fields whose interactions a network models: one vector a slot, perhaps one a dense column."""

from __future__ import annotations

import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.deep.inputs import Inputs, NetworkShape

__all__ = ["Fields", "pairs"]


class Fields(nn.Module):
    """F vectors of d numbers an example: the slots' pooled embeddings, then ``x_c v_c``.

    Args:
        shape: the network's.
        dense_fields: whether each dense column x_c is a field too. Its vector v_c is a parameter
            of the network, for it is in every batch.
        init_scale: standard deviation of v_c's initial numbers.

    Raises:
        ConfigError: there are fewer than two fields, so that nothing can interact.
    """

    def __init__(self, shape: NetworkShape, *, dense_fields: bool, init_scale: float) -> None:
        super().__init__()
        self.dim = shape.row_dim
        self.count = len(shape.slots) + dense_fields * len(shape.dense_names)
        if self.count < 2:
            raise ConfigError(
                f"interactions need at least two fields, got slots {shape.slots} and dense_fields "
                f"= {dense_fields}; add slots to deep_slots, or use model 'dnn'"
            )
        self.dense: nn.Parameter | None = None
        if dense_fields:
            drawn = torch.randn(len(shape.dense_names), self.dim) * init_scale
            self.dense = nn.Parameter(drawn)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Return (B, F, d)."""
        if self.dense is None:
            return inputs.embeddings
        return torch.cat([inputs.embeddings, inputs.dense.unsqueeze(2) * self.dense], 1)


def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs i < j of `count` fields: int64 (P,) of i and of j, P = count(count-1)/2."""
    left, right = torch.triu_indices(count, count, 1)
    return left, right
