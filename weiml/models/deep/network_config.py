"""What the configurations of all models with a network have in common: how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from weiml.errors import ConfigError
from weiml.models.registry import ModelConfig

__all__ = ["NetworkConfig"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ModelConfig):
    """Optimizer and precision of a network."""

    optimizer: Literal["adam", "adagrad", "sgd"] = "adam"
    """Of the network; adam decays weights as AdamW does."""
    lr: float = 1e-3
    """The network's learning rate."""
    weight_decay: float = 0.0
    momentum: float | None = None
    """Of sgd, and beta_1 of adam; None: 0 and 0.9."""
    clip_norm: float = 0.0
    """Longest gradient of the network that is stepped along; 0: any."""
    dropout: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's products; parameters, tables and sums stay float32."""

    def __post_init__(self) -> None:
        for knob in ("weight_decay", "clip_norm"):
            if not getattr(self, knob) >= 0:
                raise ConfigError(f"{knob} must not be negative, got {getattr(self, knob)}")
        if not self.lr > 0:
            raise ConfigError(f"lr must be above 0, got {self.lr}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum}")
