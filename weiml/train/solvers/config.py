"""How a batch solver runs: the loss, its penalties, when it stops, on what transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from weiml.errors import ConfigError
from weiml.models import LogisticRegressionConfig

__all__ = ["Loss", "SearchConfig", "SolverConfig", "StopConfig"]

Loss = Literal["logistic", "squared_hinge"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Of the line searches. The defaults are those of Nocedal and Wright, section 3.1."""

    decrease: float = 1e-4
    """c1: the share of the decrease that the slope promises which a step must bring."""
    curvature: float = 0.9
    """c2 of the strong Wolfe conditions: the share of the slope that may be left (L-BFGS only)."""
    shrink: float = 0.5
    """By how much OWL-QN shortens a step that brings too little."""
    max_evaluations: int = 30
    """Of the objective, in one search."""

    def __post_init__(self) -> None:
        if not 0 < self.decrease < self.curvature < 1:
            raise ConfigError(
                f"decrease and curvature must be 0 < decrease < curvature < 1, got "
                f"{self.decrease} and {self.curvature}"
            )
        if not 0 < self.shrink < 1:
            raise ConfigError(f"shrink must be between 0 and 1, got {self.shrink}")
        if self.max_evaluations < 2:
            raise ConfigError(f"max_evaluations must be at least 2, got {self.max_evaluations}")


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """When an optimum is near enough. A tolerance of 0 never stops."""

    max_iterations: int = 1000
    gradient_tolerance: float = 1e-7
    """Of the gradient's (OWL-QN: pseudo-gradient's) norm, as a share of that at the start."""
    objective_tolerance: float = 1e-12
    """Of the relative decrease of the objective an iteration, on average over the last
    `objective_window` ones."""
    objective_window: int = 5

    def __post_init__(self) -> None:
        for knob in ("max_iterations", "objective_window"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        for knob in ("gradient_tolerance", "objective_tolerance"):
            if not 0 <= getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be in [0, 1), got {getattr(self, knob)}")


@dataclass(frozen=True, kw_only=True)
class SolverConfig:
    """One run of L-BFGS, or of OWL-QN where `l1` is above 0.

    The objective is the sum over all examples of weight · loss, plus ``l1 Σ |w| + l2 / 2 Σ w²``:
    scikit-learn's with C = 1 / l2 (or 1 / l1) and divided by C.
    """

    loss: Loss = "logistic"
    l1: float = 0.0
    l2: float = 1.0
    penalise_bias: bool = False
    """Whether the penalties count the bias too."""
    history: int = 10
    """m: how many changes of weights and gradient the curvature is told from."""
    stop: StopConfig = field(default_factory=StopConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    lr: LogisticRegressionConfig = field(default_factory=LogisticRegressionConfig)
    """Of the model that is saved: its products of slots, and the optimizer that goes on online."""

    save_every: int = 10
    """Iterations between two saved states, where `BatchSolver.fit` is given a folder for them."""
    batch_size: int = 8192
    """Examples that a worker reads at a time; bears on speed, not on what is computed."""
    transport: Literal["embedded", "ray"] = "embedded"
    """Everything in this process, or servers and workers as Ray actors."""
    num_shards: int = 1
    """Shards of the parameter server; they change no bit."""
    num_workers: int = 1
    """Workers, each of which holds a range of the examples; embedded ones take turns."""
    cpus_per_worker: float = 1
    """Ray's logical CPUs that a worker takes."""
    timeout_s: float = 120.0
    """For the start of workers."""

    def __post_init__(self) -> None:
        for knob in ("history", "save_every", "batch_size", "num_shards", "num_workers"):
            if getattr(self, knob) < 1:
                raise ConfigError(f"{knob} must be at least 1, got {getattr(self, knob)}")
        for knob in ("l1", "l2", "cpus_per_worker"):
            if not 0 <= getattr(self, knob) < float("inf"):
                raise ConfigError(f"{knob} must be a number from 0 on, got {getattr(self, knob)}")
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout_s must be above 0, got {self.timeout_s}")
