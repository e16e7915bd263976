"""What the configurations of all networks over embeddings have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from weiml.errors import ConfigError
from weiml.features import Cross, CrossGroups
from weiml.models.deep.network_config import NetworkConfig
from weiml.models.losses import CrossEntropy, LossConfig
from weiml.ps import FTRL, Adagrad
from weiml.ps.optimizers import OptimizerConfig

__all__ = ["DeepConfig"]


@dataclass(frozen=True, kw_only=True)
class DeepConfig(NetworkConfig):
    """Tables of a network over embeddings, and how they are learned."""

    embedding_dim: int = 16
    pooling: Literal["mean", "sum"] = "mean"
    """How the embeddings of a slot with several keys become one."""
    init_scale: float = 0.01
    """Standard deviation of new embeddings."""
    embedding: OptimizerConfig = field(default_factory=lambda: Adagrad(lr=0.05, initial_sum=0.1))
    """The optimizer of embeddings."""
    linear: OptimizerConfig = field(
        default_factory=lambda: FTRL(alpha=0.05, beta=1.0, l1=0.0, l2=1.0)
    )
    """The optimizer of the linear part's weights, in models that have one."""
    expected_rows: int = 0
    """About how many different keys there will be, if that is known; see `TableConfig`."""
    multiplicity: Literal["sum", "sqrt", "mean"] = "sqrt"
    """How the gradients of the c examples of a batch that share a key make one: their sum over 1,
    sqrt(c) or c."""

    crosses: tuple[Cross, ...] = ()
    """Products of slots to take on the fly: they have keys and rows as if the batch held them, but
    live for one step only. Not those that are slots of the batch already."""
    cross_groups: tuple[CrossGroups, ...] = ()
    """Whole groups of such products."""
    deep_slots: tuple[str, ...] | None = None
    """Slots, crosses included, that the network has embeddings of; None: all."""
    linear_slots: tuple[str, ...] | None = None
    """Slots, crosses included, of the linear part; None: all."""
    sequences: tuple[str, ...] = ()
    """Slots whose keys' rows a network gets one by one; see the model."""
    max_length: int = 50
    """Of each sequence the last so many keys count."""

    loss: LossConfig = field(default_factory=CrossEntropy)
    """What is minimised; see docs/losses.md."""
    task: int = 0
    """Which column of the labels a model with one task learns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob in ("embedding_dim", "max_length"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        for knob in ("init_scale", "task", "expected_rows"):
            if not getattr(self, knob) >= 0:
                raise ConfigError(f"{knob} must not be negative, got {getattr(self, knob)}")
        if any(size < 1 for size in getattr(self, "hidden", ())):
            raise ConfigError(f"hidden sizes must be at least 1, got {getattr(self, 'hidden', ())}")
