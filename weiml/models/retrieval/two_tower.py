"""Two towers: a vector of the user and one of the item, near one another where they go together.

    u = MLP_u(user's slots and numbers) / |·|     v = MLP_v(item's) / |·|     logit = u·v / τ + b

u and v know nothing of one another, so that items' vectors are made ahead and found by an index.
Trained on clicks alone by telling each one's item from the others of its batch, corrected for
popular items being in more batches, p_j the share of batches that have item j:

    L = -Σ_i w_i ln softmax_j(u_i·v_j / τ - ln p_j)_i       over the batch's examples of label > 0

(Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys
2019), or on clicks and others by the log-loss of the logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from weiml.config import nearest
from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models.base import Columns, Rows
from weiml.models.deep.base import DeepModel
from weiml.models.deep.config import DeepConfig
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.registry import register_model
from weiml.models.retrieval.frequency import FrequencyEstimator

__all__ = ["TwoTower", "TwoTowerConfig", "in_batch_softmax"]


@dataclass(frozen=True, kw_only=True)
class TwoTowerConfig(DeepConfig):
    """Which columns belong to whom, the towers, and what they are trained by."""

    name: Literal["two_tower"] = "two_tower"
    user_slots: tuple[str, ...] = ()
    item_slots: tuple[str, ...] = ()
    """Slots named in neither are not read."""
    user_dense: tuple[str, ...] = ()
    item_dense: tuple[str, ...] = ()
    """Dense columns named in neither are not read."""
    hidden: tuple[int, ...] = (128,)
    """Hidden sizes of both towers."""
    vector_dim: int = 32
    """Numbers of a vector: k."""
    temperature: float = 0.1
    """τ: u·v is in [-1, 1], so that log-odds reach from -1/τ to 1/τ."""
    objective: Literal["softmax", "logistic"] = "softmax"
    """Clicks against the other items of their batch, or the log-loss of all examples."""
    correct_popularity: bool = True
    """Whether ln p_j is taken off in the softmax."""
    frequency_cells: int = 1 << 18
    """Memory of p; see `FrequencyEstimator`. A power of 2, several times the number of items."""
    frequency_rate: float = 0.05
    """How fast p follows."""
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob in ("user_slots", "item_slots"):
            if not getattr(self, knob):
                raise ConfigError(f"model 'two_tower' needs {knob}: the names of slots")
        for kind in ("slots", "dense"):
            both = set(getattr(self, f"user_{kind}")) & set(getattr(self, f"item_{kind}"))
            if both:
                raise ConfigError(
                    f"user_{kind} and item_{kind} both name {sorted(both)}; a vector of an item "
                    "must not depend on the user"
                )
        if self.vector_dim < 1 or not self.temperature > 0:
            raise ConfigError(
                f"vector_dim must be at least 1 and temperature above 0, got {self.vector_dim} and "
                f"{self.temperature}"
            )
        FrequencyEstimator(self.frequency_cells, self.frequency_rate)  # checks both


class _Tower(nn.Module):
    """The vector of one side."""

    columns: torch.Tensor

    def __init__(
        self,
        slots: tuple[str, ...],
        dense: tuple[str, ...],
        config: TwoTowerConfig,
        shape: NetworkShape,
    ) -> None:
        super().__init__()
        starts = [shape.slots.index(slot) * shape.row_dim for slot in slots]
        columns = [start + i for start in starts for i in range(shape.row_dim)]
        first = len(shape.slots) * shape.row_dim
        for name in dense:
            if name not in shape.dense_names:
                raise ConfigError(f"{name!r} is no dense column{nearest(name, shape.dense_names)}")
            columns.append(first + shape.dense_names.index(name))
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.mlp = MLP(
            len(columns),
            config.hidden,
            shape.generator,
            num_outputs=config.vector_dim,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Return float32 (B, k) of length 1."""
        found = self.mlp(inputs.flat.index_select(1, self.columns))
        return functional.normalize(found.float(), dim=1)


class _Network(nn.Module):
    def __init__(self, config: TwoTowerConfig, shape: NetworkShape) -> None:
        super().__init__()
        self._temperature = config.temperature
        self._in_batch = config.objective == "softmax"
        self.user = _Tower(config.user_slots, config.user_dense, config, shape)
        self.item = _Tower(config.item_slots, config.item_dense, config, shape)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Return logits (B,); in training by the softmax, both vectors (B, 2k)."""
        users, items = self.user(inputs), self.item(inputs)
        if self.training and self._in_batch:
            return torch.cat([users, items], 1)
        return (users * items).sum(1) / self._temperature + self.bias


def in_batch_softmax(
    users: torch.Tensor,
    items: torch.Tensor,
    ids: torch.Tensor,
    probabilities: torch.Tensor | None,
    weights: torch.Tensor,
    temperature: float,
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Return (loss, its gradients by users, by items): see the module.

    Other examples of the same item are no wrong answers: they are left out of the sum.

    Args:
        users: (n, k) vectors.
        items: (n, k) vectors; row i is the right one of user i.
        ids: (n,) of the items.
        probabilities: (n,) that a batch has the item; None: all alike.
        weights: (n,) what each row's loss counts.
        temperature: τ.
    """
    scores = users @ items.T / temperature
    if probabilities is not None:
        scores = scores - probabilities.log()
    right = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    scores = scores.masked_fill((ids[:, None] == ids) & ~right, -torch.inf)
    logs = torch.log_softmax(scores, 1)
    total = -float((weights * logs.diagonal()).sum(dtype=torch.float64))
    by_scores = (logs.exp() - right.to(logs)) * (weights[:, None] / temperature)
    return total, by_scores @ items, by_scores.T @ users


@register_model
class TwoTower(DeepModel):
    """See the module. The item of an example is told from others by ``batch.items``."""

    name = "two_tower"
    config_class = TwoTowerConfig
    config: TwoTowerConfig

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        self._frequency = FrequencyEstimator(
            self.config.frequency_cells, self.config.frequency_rate
        )

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)

    def embed_users(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """Return float32 (B, k) vectors of length 1 of the examples' users.

        What the batch has of items does not matter: their cells may be empty. `rows` are those of
        ``keys(batch)``, as `Predictor.rows` gives them.
        """
        return self._vectors("user", batch, rows)

    def embed_items(self, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        """Return float32 (B, k) vectors of length 1 of the examples' items; see `embed_users`."""
        return self._vectors("item", batch, rows)

    def worker_state(self) -> dict[str, np.ndarray]:
        """See `Model.worker_state`: the items' frequencies too."""
        own = {f"frequency_{name}": array for name, array in self._frequency.state().items()}
        return super().worker_state() | own

    def set_worker_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See `Model.set_worker_state`."""
        super().set_worker_state(state)
        prefix = "frequency_"
        own = {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
        self._frequency.set_state(own)

    def _chosen(self, knob: str, names: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the slots that a knob names; the network's are the towers' by default."""
        own = (*self.config.user_slots, *self.config.item_slots)
        if knob != "deep_slots":
            return super()._chosen(knob, names)
        if names is not None and set(names) != set(own):
            raise ConfigError(
                f"deep_slots {names}: name the slots in user_slots and item_slots, and leave "
                "deep_slots out"
            )
        return super()._chosen("user_slots and item_slots", own)

    def _vectors(self, side: str, batch: Batch, rows: Mapping[str, Rows]) -> np.ndarray:
        with self._scoring():
            tower = getattr(self.network.module, side)
            return np.asarray(tower(self._inputs_of(batch, rows)).cpu().numpy())

    def _losses(self, batch: Batch, logits: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return (sum of losses, gradients): by both vectors where those are what is learned."""
        if logits.ndim == 1:
            return super()._losses(batch, logits)
        return self._softmax_losses(batch, logits)

    def _softmax_losses(self, batch: Batch, vectors: torch.Tensor) -> tuple[float, torch.Tensor]:
        rewards = np.nan_to_num(batch.labels[:, self.config.task]) * batch.weights
        chosen = np.flatnonzero(rewards > 0)
        ids = batch.items[chosen]
        probabilities = None
        if self.config.correct_popularity:
            probabilities = torch.from_numpy(self._frequency.observe(ids)).to(vectors.device)
        places = torch.from_numpy(chosen).to(vectors.device)
        users, items = vectors[places].chunk(2, 1)
        total, by_users, by_items = in_batch_softmax(
            users,
            items,
            torch.from_numpy(ids.view(np.int64)).to(vectors.device),
            probabilities,
            torch.from_numpy(rewards[chosen].astype(np.float32)).to(vectors.device),
            self.config.temperature,
        )
        gradients = torch.zeros_like(vectors)
        gradients[places] = torch.cat([by_users, by_items], 1)
        return total, gradients
