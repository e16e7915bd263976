"""The contract of a search: what an objective is, and the knobs of a run.

Knows neither Ray nor the sampler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from weiml.config import from_mapping, nearest
from weiml.errors import ConfigError
from weiml.flow.manifest import digest_path
from weiml.search.space import Space

__all__ = [
    "OBJECTIVES",
    "AshaConfig",
    "Evaluate",
    "Objective",
    "Progress",
    "Report",
    "SearchConfig",
    "build_objective",
    "register_objective",
]

Report = Callable[[int, Mapping[str, float]], None]
"""``report(step, metrics)``: steps grow; does not return where the trial is stopped early."""

Evaluate = Callable[[Mapping[str, Any], Report], Mapping[str, float]]
"""Anything that tries one point: ``(params, report) -> metrics``."""


class Progress(Protocol):
    """Where a search says what it is doing: a line of text, and how many trials of how many."""

    def __call__(self, text: str, *, done: int | None = None, total: int | None = None) -> None:
        """Take one line."""


class Objective(ABC):
    """What one trial does, named in a registry so that files and flows can ask for it.

    An implementation is a frozen dataclass: its fields are the options of the file. It travels to
    the trial's process by pickle, so data goes in as paths. It must not change what another trial
    reads, since trials run side by side.
    """

    @abstractmethod
    def __call__(self, params: Mapping[str, Any], report: Report) -> Mapping[str, float]:
        """Try one point and return its metrics, the searched one among them."""

    def configuration(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The whole configuration, fit for JSON, that a point stands for."""
        return Space.nested(params)

    def identity(self) -> dict[str, Any]:
        """What tells two objectives apart, fit for JSON: files count by what is in them."""
        return {
            name: digest_path(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
        }


OBJECTIVES: dict[str, type[Objective]] = {}
_O = TypeVar("_O", bound=Objective)


def register_objective(name: str) -> Callable[[type[_O]], type[_O]]:
    """Class decorator: make an objective known by `name`."""

    def register(cls: type[_O]) -> type[_O]:
        known = OBJECTIVES.get(name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ConfigError(f"objective {name!r} is registered already, by {known.__qualname__}")
        OBJECTIVES[name] = cls
        return cls

    return register


def build_objective(name: str, options: Mapping[str, Any]) -> Objective:
    """Make the objective called `name` from its options.

    Raises:
        ConfigError: the name or an option is unknown, or an option does not fit.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}{nearest(name, OBJECTIVES)}")
    return from_mapping(OBJECTIVES[name], options, where=f"objective {name}")


@dataclass(frozen=True, kw_only=True)
class AshaConfig:
    """Asynchronous successive halving: stop a trial that is not among the best at a rung.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
    """

    max_steps: int
    """The last step that an objective reports; the top rung."""
    grace_steps: int = 1
    """No trial is stopped before this step."""
    reduction: int = 3
    """One in `reduction` goes on from each rung."""

    def __post_init__(self) -> None:
        if self.grace_steps < 1 or self.max_steps < self.grace_steps:
            raise ConfigError(
                "1 <= grace_steps <= max_steps must hold, got "
                f"grace_steps = {self.grace_steps} and max_steps = {self.max_steps}"
            )
        if self.reduction < 2:
            raise ConfigError(f"reduction must be at least 2, got {self.reduction}")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How long, how wide and where a search runs."""

    folder: Path
    """Everything of the search is kept in ``folder/name``."""
    name: str
    """The run's id: the same folder and name go on with the same search."""
    metric: str = "log_loss"
    mode: Literal["min", "max"] = "min"
    trials: int = 8
    """How many trials are finished at the end, those of earlier attempts counted."""
    concurrency: int | None = None
    """Trials at a time at most; None: as many as Ray has cores for."""
    cpus_per_trial: int = 1
    seed: int = 0
    startup_trials: int | None = None
    """Random trials before the sampler models; None: a third of `trials`, from 3 to 10."""
    asha: AshaConfig | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"name must be a plain folder name, got {self.name!r}")
        for knob in ("trials", "concurrency", "cpus_per_trial", "startup_trials"):
            value = getattr(self, knob)
            if value is not None and value < 1:
                raise ConfigError(f"{knob} must be at least 1, got {value}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")

    @property
    def home(self) -> Path:
        """The absolute folder of this search."""
        return (self.folder / self.name).resolve()

    @property
    def startup(self) -> int:
        """Random trials before the sampler models."""
        return self.startup_trials or max(3, min(10, self.trials // 3))
