"""A search as a file: objective, its options, the space and the knobs of the run.

Knows neither Ray nor the sampler until it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weiml.config import from_mapping, load_config
from weiml.search.base import Objective, SearchConfig, build_objective
from weiml.search.space import Space

__all__ = ["SearchPlan", "load_plan"]


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a file in configs/search says; the tables are checked when it is made.

    Example:
        >>> plan = load_plan("configs/search/feed.toml", ["search.trials=20"])  # doctest: +SKIP
        >>> objective = plan.make_objective(train=train, validation=validation)  # doctest: +SKIP
        >>> config = plan.make_config(folder="runs/searches", name="wide")  # doctest: +SKIP
        >>> result = search(objective, plan.parameters, config)  # doctest: +SKIP
    """

    objective: str
    """A name in `OBJECTIVES`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the objective; what depends on the run (paths of data) is added by who runs it."""
    search: dict[str, Any] = field(default_factory=dict)
    """Knobs of `SearchConfig`, but for folder and name."""
    space: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parameters", Space.from_mapping(self.space))
        self.make_config(folder=Path(), name="check")

    @property
    def parameters(self) -> Space:
        """The space."""
        space: Space = self._parameters  # type: ignore[attr-defined]
        return space

    def make_objective(self, **options: Any) -> Objective:
        """Build the objective; `options` go over those of the file, None leaves the file's.

        Raises:
            ConfigError: the objective or an option is unknown, or does not fit.
        """
        return build_objective(self.objective, {**self.options, **_given(options)})

    def make_config(self, *, folder: str | Path, name: str, **knobs: Any) -> SearchConfig:
        """Build the run's configuration; `knobs` go over those of the file, None leaves the file's.

        Raises:
            ConfigError: a knob is unknown or does not fit.
        """
        tree = {**self.search, **_given(knobs), "folder": Path(folder), "name": name}
        return from_mapping(SearchConfig, tree, where="search")


def load_plan(path: str | Path, overrides: Iterable[str] = ()) -> SearchPlan:
    """Read a plan from TOML, overrides such as ``search.trials=20`` on top.

    Raises:
        ConfigError: the file is missing or malformed, or something in it does not fit.
    """
    return load_config(SearchPlan, path, overrides)


def _given(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if value is not None}
