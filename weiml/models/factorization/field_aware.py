"""The field-aware factorization machine: a key has a vector for each slot that it meets.

    logit = bias + Σ_k w_k x_k + Σ_d w_d dense_d
            + Σ_{i<j} <v_{i, slot of j}, v_{j, slot of i}> x_i x_j

(Juan, Zhuang, Chin and Lin, "Field-aware factorization machines for CTR prediction", RecSys 2016.)
A row holds S vectors of `embedding_dim` numbers, one after the other in the order of the slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.base import Columns
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.row_sums import RowSums
from weiml.models.deep.sparse import EMBEDDING
from weiml.models.factorization.kernels import field_gradients, field_pairs
from weiml.models.fetch import Lookup
from weiml.models.registry import register_model
from weiml.ps.tables.config import MAX_DIM

__all__ = ["FFM", "FFMConfig"]


@dataclass(frozen=True, kw_only=True)
class FFMConfig(DeepConfig):
    """`pooling` is about the values x of a slot's keys: "mean" divides them by the keys' number."""

    name: Literal["ffm"] = "ffm"
    embedding_dim: int = 4
    """Of each of a key's vectors; a row has as many of them as there are `deep_slots`."""
    lr: float = 0.01
    """Of bias and weights of the dense columns."""


class _Network(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.weights = nn.Parameter(torch.zeros(len(shape.dense_names)))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert inputs.linear is not None
        return inputs.linear + inputs.flat[:, 0] + inputs.dense @ self.weights + self.bias


@register_model
class FFM(RowSums):
    """See the module."""

    name = "ffm"
    config_class = FFMConfig
    config: FFMConfig
    has_linear = True

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        if self.row_dim > MAX_DIM:
            raise ConfigError(
                f"model 'ffm' has rows of deep_slots · embedding_dim = {len(self._deep_slots)} · "
                f"{self.config.embedding_dim} = {self.row_dim} numbers, a table takes {MAX_DIM} at "
                "most; lower embedding_dim or name the slots worth pairing in deep_slots"
            )

    @property
    def row_dim(self) -> int:
        """A vector for each slot."""
        return len(self._deep_slots) * self.config.embedding_dim

    @property
    def num_sums(self) -> int:
        """The sum over pairs."""
        return 1

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(shape)

    def _sum_rows(self, lookup: Lookup, rows: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        lanes = (0,) * self.config.embedding_dim
        field_pairs(rows[EMBEDDING], *self._arguments(lookup), lanes, out)

    def _row_gradients(
        self, gradients: np.ndarray, lookup: Lookup, rows: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        return np.asarray(field_gradients(gradients, rows[EMBEDDING], *self._arguments(lookup)))

    def _arguments(self, lookup: Lookup) -> tuple[Any, ...]:
        mean = self.config.pooling == "mean"
        fields = len(self._deep_slots)
        return lookup.positions, lookup.values, lookup.offsets, mean, fields
