"""The factorization machine: a weight for every pair of keys, made of a vector a key.

    logit = bias + Σ_k w_k x_k + Σ_{i<j} <v_i, v_j> x_i x_j
    Σ_{i<j} <v_i, v_j> x_i x_j = (|Σ_k v_k x_k|² - Σ_k |v_k x_k|²) / 2

(Rendle, "Factorization machines", ICDM 2010.) The second line makes it linear in the number of
keys. Dense columns are features like keys are; their vectors are part of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import nn

from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.row_sums import RowSums
from weiml.models.deep.sparse import EMBEDDING
from weiml.models.factorization.kernels import square_gradients, square_sums
from weiml.models.fetch import Lookup
from weiml.models.registry import register_model
from weiml.ps import Adagrad
from weiml.ps.optimizers import OptimizerConfig

__all__ = ["FM", "FMConfig"]


@dataclass(frozen=True, kw_only=True)
class FMConfig(DeepConfig):
    """`pooling` is about the values x of a slot's keys: "mean" divides them by the keys' number."""

    name: Literal["fm"] = "fm"
    embedding_dim: int = 8
    embedding: OptimizerConfig = field(default_factory=lambda: Adagrad(lr=0.02, initial_sum=0.1))
    lr: float = 0.01
    """Of bias, weights and vectors of the dense columns."""


class _Network(nn.Module):
    def __init__(self, config: FMConfig, shape: NetworkShape) -> None:
        super().__init__()
        count = len(shape.dense_names)
        self.bias = nn.Parameter(torch.zeros(()))
        self.weights = nn.Parameter(torch.zeros(count))
        scale = config.init_scale
        self.vectors = nn.Parameter(torch.randn(count, config.embedding_dim) * scale)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert inputs.linear is not None
        x, dim = inputs.dense, self.vectors.shape[1]
        sums = inputs.flat[:, :dim] + x @ self.vectors
        squares = inputs.flat[:, dim] + (x * x) @ (self.vectors**2).sum(1)
        pairs = 0.5 * ((sums * sums).sum(1) - squares)
        return inputs.linear + pairs + x @ self.weights + self.bias


@register_model
class FM(RowSums):
    """See the module."""

    name = "fm"
    config_class = FMConfig
    config: FMConfig
    has_linear = True

    @property
    def num_sums(self) -> int:
        """The sum of the vectors, then that of their squares."""
        return self.row_dim + 1

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)

    def _sum_rows(self, lookup: Lookup, rows: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        mean = self.config.pooling == "mean"
        square_sums(rows[EMBEDDING], lookup.positions, lookup.values, lookup.offsets, mean, out)

    def _row_gradients(
        self, gradients: np.ndarray, lookup: Lookup, rows: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        mean = self.config.pooling == "mean"
        return np.asarray(
            square_gradients(
                gradients,
                rows[EMBEDDING],
                lookup.positions,
                lookup.values,
                lookup.offsets,
                mean,
            )
        )
