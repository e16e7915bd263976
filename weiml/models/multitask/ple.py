"""Progressive Layered Extraction: experts of each task beside shared ones, in several levels.

    x_t ← Σ_e softmax(W_t x_t)_e [f_t(x_t) ‖ f_s(x_s)]_e           each task's own and the shared
    x_s ← Σ_e softmax(W_s x_s)_e [f_1(x_1) ‖ … ‖ f_T(x_T) ‖ f_s(x_s)]_e    not in the last level
    logit_t = MLP_t(x_t)

With one level it is Customized Gate Control. (Tang et al., "Progressive layered extraction (PLE):
a novel multi-task learning (MTL) model for personalized recommendations", RecSys 2020.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from weiml.errors import ConfigError
from weiml.models.deep.inputs import Inputs, NetworkShape
from weiml.models.multitask.base import MultiTaskModel, Towers
from weiml.models.multitask.config import MultiTaskConfig
from weiml.models.multitask.experts import Experts, Gate
from weiml.models.registry import register_model

__all__ = ["PLE", "ExtractionLevel", "PLEConfig"]


@dataclass(frozen=True, kw_only=True)
class PLEConfig(MultiTaskConfig):
    """How many levels and experts, and the experts' shape."""

    name: Literal["ple"] = "ple"
    levels: int = 2
    shared_experts: int = 2
    task_experts: int = 2
    """Of each task."""
    hidden: tuple[int, ...] = (128, 64)
    """Layers of each expert, in every level."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob in ("levels", "shared_experts", "task_experts"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")


class ExtractionLevel(nn.Module):
    """One level: inputs of each task and the shared ones to outputs of each.

    Args:
        num_inputs: n.
        config: of the whole.
        generator: of dropout.
        last: whether there is nothing above that needs the shared outputs.
    """

    def __init__(
        self, num_inputs: int, config: PLEConfig, generator: torch.Generator, *, last: bool
    ) -> None:
        super().__init__()
        num_tasks = len(config.tasks)
        counts = [config.task_experts] * num_tasks + [config.shared_experts]
        self.experts = nn.ModuleList(
            Experts(
                count,
                num_inputs,
                config.hidden,
                generator,
                dropout=config.dropout,
                batch_norm=config.batch_norm,
            )
            for count in counts
        )
        own = config.task_experts + config.shared_experts
        self.gates = nn.ModuleList(Gate(num_inputs, own) for _ in config.tasks)
        self.shared_gate = None if last else Gate(num_inputs, sum(counts))

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return (B, m) of each task, and the shared unless last, of T + 1 inputs (B, n)."""
        found = [experts(x) for experts, x in zip(self.experts, inputs, strict=True)]
        outputs = [
            gate(x, torch.cat([own, found[-1]], 1))
            for gate, x, own in zip(self.gates, inputs[:-1], found[:-1], strict=True)
        ]
        if self.shared_gate is not None:
            outputs.append(self.shared_gate(inputs[-1], torch.cat(found, 1)))
        return outputs


class _Network(nn.Module):
    def __init__(self, config: PLEConfig, shape: NetworkShape) -> None:
        super().__init__()
        width = config.hidden[-1] if config.hidden else shape.num_inputs
        sizes = [shape.num_inputs] + [width] * (config.levels - 1)
        self.levels = nn.ModuleList(
            ExtractionLevel(size, config, shape.generator, last=level == config.levels - 1)
            for level, size in enumerate(sizes)
        )
        self.towers = Towers(width, config, shape)
        self._count = len(config.tasks)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        found = [inputs.flat] * (self._count + 1)
        for level in self.levels:
            found = level(found)
        return torch.as_tensor(self.towers(found))


@register_model
class PLE(MultiTaskModel):
    """See the module."""

    name = "ple"
    config_class = PLEConfig
    config: PLEConfig

    def build(self, shape: NetworkShape) -> nn.Module:
        """See `DeepModel.build`."""
        return _Network(self.config, shape)
