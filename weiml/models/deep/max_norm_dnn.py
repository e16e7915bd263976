"""A network behind one sparse linear layer whose inputs are normalised while it learns.

    h = c + Σ_k (x_k / m_k + u_k) w_k,    m_k = the largest |x_k| so far
    logit = MLP([act(h) ‖ dense])

x_k / m_k lies in [-1, 1], so no value, however large, can blow gradients up; no gradient flows
through m_k. The bias u_k is added where key k is present, so that a value of 0 is told from a
missing one. (Koumchatzky and Andryeyev, "Using deep learning at scale in Twitter's timelines",
2017; the layers MaxNorm and FullSparse of twml.)

m_k is a row of a table of its own, whose optimizer keeps the maximum of what any worker pushes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models.base import Columns
from weiml.models.deep.cells import Cells
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP, Activation, activation
from weiml.models.deep.max_norm_kernels import max_norm_gradients, max_norm_sums, raise_maxima
from weiml.models.deep.row_sums import RowSums
from weiml.models.deep.sparse import EMBEDDING, starts_of
from weiml.models.fetch import Fetch, Lookup
from weiml.models.registry import register_model
from weiml.ps import Client, Maximum, TableConfig
from weiml.ps.tables.config import MAX_DIM

__all__ = ["NORM", "MaxNormDNN", "MaxNormDNNConfig"]

NORM = "norm"
"""The table of the largest |x| of each key."""


@dataclass(frozen=True, kw_only=True)
class MaxNormDNNConfig(DeepConfig):
    """Rows start at 0: the network around them breaks their symmetry."""

    name: Literal["max_norm_dnn"] = "max_norm_dnn"
    embedding_dim: int = 64
    """n, outputs of the sparse layer."""
    init_scale: float = 0.0
    act: Activation = "relu"
    """Of the sparse layer and the hidden ones."""
    hidden: tuple[int, ...] = (64, 32)
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_dim >= MAX_DIM:
            raise ConfigError(
                f"embedding_dim must be below {MAX_DIM}, since a row has the key's bias besides, "
                f"got {self.embedding_dim}"
            )


class _Network(nn.Module):
    def __init__(self, config: MaxNormDNNConfig, shape: NetworkShape) -> None:
        super().__init__()
        n = config.embedding_dim
        self.bias = nn.Parameter(torch.full((n,), 1.0 / n))  # above 0: relus let gradients through
        self.act = activation(config.act)
        self.mlp = MLP(
            shape.num_inputs,
            config.hidden,
            shape.generator,
            dropout=config.dropout,
            act=config.act,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        n = len(self.bias)
        sparse = self.act(inputs.flat[:, :n] + self.bias)
        return self.mlp(torch.cat([sparse, inputs.dense], dim=1)).squeeze(1)


@register_model
class MaxNormDNN(RowSums):
    """See the module."""

    name = "max_norm_dnn"
    config_class = MaxNormDNNConfig
    config: MaxNormDNNConfig

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        self._grown = np.empty(0, np.uint64), np.empty((0, 1), np.float32)

    @property
    def row_dim(self) -> int:
        """The weights, and the bias."""
        return self.config.embedding_dim + 1

    @property
    def num_sums(self) -> int:
        """The outputs of the sparse layer."""
        return self.config.embedding_dim

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)

    def tables(self) -> tuple[TableConfig, ...]:
        """See `Model.tables`."""
        norm = TableConfig(NORM, optimizer=Maximum(), expected_rows=self.config.expected_rows)
        return (*super().tables(), norm)

    def take_push(self) -> Callable[[Client], None]:
        """See `Model.take_push`: besides the gradients, the maxima that the batch raised."""
        push, (keys, maxima) = super().take_push(), self._grown

        def push_both(client: Client) -> None:
            push(client)
            if len(keys):
                with self.stages.timed("push"):
                    client.push(NORM, keys, maxima)

        return push_both

    def _cells(self, batch: Batch) -> dict[str, Cells]:
        cells = super()._cells(batch)
        return {**cells, NORM: cells[EMBEDDING]}

    def _rows(self, client: Client, fetch: Fetch, table: str) -> np.ndarray:
        """Return rows; maxima as they are once the batch was seen."""
        rows = super()._rows(client, fetch, table)
        if table != NORM:
            return rows
        batch, lookups = fetch.prepared
        maxima = np.array(rows, np.float32)
        starts = starts_of(lookups[NORM], len(batch))
        grew = raise_maxima(
            maxima, lookups[NORM].positions, lookups[NORM].values, starts, batch.weights
        )
        self._grown = lookups[NORM].keys[grew], maxima[grew]
        return maxima

    def _sum_rows(self, lookup: Lookup, rows: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        starts = starts_of(lookup, len(out))
        max_norm_sums(rows[EMBEDDING], rows[NORM], lookup.positions, lookup.values, starts, out)

    def _row_gradients(
        self, gradients: np.ndarray, lookup: Lookup, rows: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        starts = starts_of(lookup, len(gradients))
        sparse = np.ascontiguousarray(gradients[:, : self.num_sums])
        arguments = rows[EMBEDDING], rows[NORM], lookup.positions, lookup.values, starts
        return np.asarray(max_norm_gradients(sparse, *arguments))
