"""What models of several tasks have in common: their names, and what each task's loss counts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from weiml.features import Batch
from weiml.models.deep.base import DeepModel
from weiml.models.deep.inputs import NetworkShape
from weiml.models.deep.layers import MLP
from weiml.models.multitask.config import MultiTaskConfig

__all__ = ["MultiTaskModel", "Towers"]


class MultiTaskModel(DeepModel):
    """A network with a column of logits (B, T) for each of T tasks. Subclasses build it."""

    config_class: ClassVar[type[MultiTaskConfig]] = MultiTaskConfig
    config: MultiTaskConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """See `Model.tasks`."""
        return self.config.tasks

    @property
    def main_task(self) -> int:
        """See `Model.main_task`."""
        return self.tasks.index(self.config.main_task) if self.config.main_task else 0

    @property
    def label_columns(self) -> tuple[int, ...]:
        """See `Model.label_columns`: each task its own, one task too."""
        return tuple(range(len(self.tasks)))

    def _losses(self, batch: Batch, logits: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return the plain sum of all losses, and the gradients as the tasks count."""
        total, gradients = super()._losses(batch, logits)
        if not self.config.task_weights:
            return total, gradients
        return total, gradients * torch.tensor(self.config.task_weights, device=gradients.device)


class Towers(nn.Module):
    """A network of its own for each task, over inputs of its own.

    Args:
        num_inputs: n, the same for all.
        config: names the tasks and sizes.
        shape: of the whole network.
    """

    def __init__(self, num_inputs: int, config: MultiTaskConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.towers = nn.ModuleList(
            MLP(
                num_inputs,
                config.tower,
                shape.generator,
                dropout=config.dropout,
                batch_norm=config.batch_norm,
            )
            for _ in config.tasks
        )

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Return logits (B, T) of T inputs (B, n)."""
        return torch.cat([t(x) for t, x in zip(self.towers, inputs, strict=True)], 1)
