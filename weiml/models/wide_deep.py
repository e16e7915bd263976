"""Wide & Deep: a linear part over all keys beside a network over their pooled embeddings.

    logit = Σ_{k in all slots} w_k x_k + MLP([pool_s(v_k x_k) for slots s] ‖ dense)

Embeddings v (Adagrad) and wide weights w (FTRL) are rows of the parameter server; the network is
dense, trained by Adam and averaged over the workers. (Cheng et al., "Wide & Deep Learning for
Recommender Systems", DLRS 2016.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models.base import Columns, Model, Rows, StepResult, TrainingStep, register_model
from weiml.models.fetch import Fetch, Prepared
from weiml.models.kernels import (
    key_counts,
    linear_gradients,
    linear_sums,
    pool,
    pool_gradients,
)
from weiml.ps import FTRL, Adagrad, Client, TableConfig

__all__ = ["WideDeep", "WideDeepConfig"]

EMBEDDING = "embedding"
WIDE = "wide"


@dataclass(frozen=True, kw_only=True)
class WideDeepConfig:
    """Shape and optimizers of a Wide & Deep model."""

    embedding_dim: int = 16
    hidden: tuple[int, ...] = (256, 128, 64)
    pooling: Literal["mean", "sum"] = "mean"
    """How the embeddings of a slot with several keys become one."""
    init_scale: float = 0.01
    """Standard deviation of new embeddings."""
    embedding: Adagrad = field(default_factory=lambda: Adagrad(lr=0.05, initial_sum=0.1))
    wide: FTRL = field(default_factory=lambda: FTRL(alpha=0.05, beta=1.0, l1=0.0, l2=1.0))
    expected_rows: int = 0
    """About how many different keys there will be, if that is known; see `TableConfig`."""
    multiplicity: Literal["sum", "sqrt", "mean"] = "sqrt"
    """How the gradients of the c examples of a batch that share a key make one: their sum over 1,
    sqrt(c) or c."""
    lr: float = 1e-3
    """Adam's learning rate for the network."""
    weight_decay: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.embedding_dim < 1:
            raise ConfigError(f"embedding_dim must be at least 1, got {self.embedding_dim}")
        if any(size < 1 for size in self.hidden):
            raise ConfigError(f"hidden sizes must be at least 1, got {self.hidden}")
        if not self.lr > 0:
            raise ConfigError(f"lr must be above 0, got {self.lr}")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


@register_model
class WideDeep(Model):
    """Wide & Deep. torch runs on one thread inside, so that every process gets the same bits."""

    name = "wide_deep"
    config_class = WideDeepConfig
    config: WideDeepConfig

    def __init__(self, config: Any, columns: Columns, *, seed: int = 0, rank: int = 0) -> None:
        super().__init__(config, columns, seed=seed, rank=rank)
        from weiml.models.network import DenseNetwork

        self._pooled = len(columns.slots) * self.config.embedding_dim
        self._network = DenseNetwork(
            self._pooled + len(columns.dense_names),
            self.config.hidden,
            lr=self.config.lr,
            weight_decay=self.config.weight_decay,
            dropout=self.config.dropout,
            seed=seed,
            dropout_seed=seed * 1_000_003 + rank + 1,
        )

    def tables(self) -> tuple[TableConfig, ...]:
        """See `Model.tables`."""
        config = self.config
        embedding = TableConfig(
            EMBEDDING,
            dim=config.embedding_dim,
            optimizer=config.embedding,
            init_scale=config.init_scale,
            seed=self.seed,
            expected_rows=config.expected_rows,
        )
        wide = TableConfig(
            WIDE,
            dim=1,
            optimizer=config.wide,
            seed=self.seed,
            expected_rows=config.expected_rows,
        )
        return embedding, wide

    def keys(self, batch: Batch) -> np.ndarray:
        """See `Model.keys`: the batch's own keys."""
        return batch.keys

    def logits(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """See `Model.logits`."""
        import torch

        from weiml.models.network import single_thread

        self.check(batch)
        with single_thread(), torch.inference_mode():
            deep = self._network.forward(self._inputs(batch, rows[EMBEDDING])).numpy()
        return np.asarray(deep + self._wide(batch, rows[WIDE]))

    def fetch(self, client: Client, prepared: Prepared, *, ahead: int = 0) -> Fetch:
        """See `Model.fetch`; rows are pulled as weights."""
        names = (EMBEDDING, WIDE)
        tickets = {name: client.pull(name, prepared.keys, ahead=ahead) for name in names}
        return Fetch(prepared=prepared, tickets=tickets)

    def step(
        self, client: Client, batch: Batch | Fetch, *, missed_by: Fetch | None = None
    ) -> TrainingStep:
        """See `Model.step`.

        The loss whose gradients go to the tables is the sum over examples (shares of a mean would
        drown in the optimizers' initial sums), tempered by `multiplicity`; the network's is the
        mean.
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        from weiml.models.network import single_thread

        fetch = self._fetched(client, batch)
        batch, distinct, positions = fetch.prepared
        embedding = Rows(self._rows(client, fetch, EMBEDDING), positions)
        wide = Rows(self._rows(client, fetch, WIDE), positions)
        with self.stages.timed("compute"), single_thread():
            inputs = self._inputs(batch, embedding).requires_grad_()
            linear = torch.from_numpy(self._wide(batch, wide)).requires_grad_()
            losses = binary_cross_entropy_with_logits(
                self._network.forward(inputs, training=True) + linear,
                torch.from_numpy(batch.labels[:, 0].copy()),
                weight=torch.from_numpy(batch.weights.copy()),
                reduction="none",
            )
            torch.autograd.backward(losses.sum())
        assert inputs.grad is not None
        assert linear.grad is not None
        gradients = inputs.grad.numpy(), linear.grad.numpy()
        with self.stages.timed("push"):
            self._push(client, batch, distinct, positions, *gradients)
        total = float(batch.weights.sum(dtype=np.float64))
        gradient = yield self._network.gradient() / np.float32(max(total, 1e-12))
        with self.stages.timed("compute"), single_thread():
            self._network.apply(gradient)
        loss = float(losses.detach().numpy().sum(dtype=np.float64))
        return StepResult(len(batch), total, loss)

    def dense_tensors(self) -> dict[str, np.ndarray]:
        """See `Model.dense_tensors`."""
        return self._network.tensors()

    def set_dense_vector(self, vector: np.ndarray) -> None:
        """See `Model.set_dense_vector`."""
        self._network.set_vector(vector)

    def dense_state(self) -> dict[str, np.ndarray]:
        """See `Model.dense_state`."""
        return self._network.state()

    def set_dense_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Model.set_dense_state`."""
        self._network.set_state(state)

    def scale_dense_lr(self, factor: float) -> None:
        """See `Model.scale_dense_lr`."""
        super().scale_dense_lr(factor)
        self._network.scale_lr(factor)

    def _inputs(self, batch: Batch, rows: Rows) -> Any:
        """Return the network's inputs: pooled embeddings, then dense columns, a tensor (B, …)."""
        import torch

        inputs = torch.empty((len(batch), self._pooled + len(batch.dense_names)))
        mean = self.config.pooling == "mean"
        pool(rows.weights, rows.positions, batch.values, batch.offsets, mean, inputs.numpy())
        inputs.numpy()[:, self._pooled :] = batch.dense
        return inputs

    def _wide(self, batch: Batch, rows: Rows) -> np.ndarray:
        """Return the linear part of the logits: float32 (B,)."""
        starts = batch.offsets[np.arange(len(batch) + 1) * len(batch.slots)]
        return np.asarray(linear_sums(rows.weights, rows.positions, batch.values, starts))

    def _push(
        self,
        client: Client,
        batch: Batch,
        distinct: np.ndarray,
        positions: np.ndarray,
        of_inputs: np.ndarray,
        of_logits: np.ndarray,
    ) -> None:
        """Sum the examples' gradients by distinct key and push them to both tables."""
        num_rows = len(distinct)
        embedding = pool_gradients(
            of_inputs,
            positions,
            batch.values,
            batch.offsets,
            self.config.pooling == "mean",
            num_rows,
            self.config.embedding_dim,
        )
        starts = batch.offsets[np.arange(len(batch) + 1) * len(batch.slots)]
        wide = linear_gradients(of_logits, positions, batch.values, starts, num_rows)
        if self.config.multiplicity != "sum":
            counts = key_counts(positions, num_rows)
            if self.config.multiplicity == "sqrt":
                counts = np.sqrt(counts)
            embedding /= counts[:, None]
            wide /= counts[:, None]
        client.push(EMBEDDING, distinct, embedding)
        client.push(WIDE, distinct, wide)
