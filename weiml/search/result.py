"""What a search found: its trials, the best of them, and which parameters mattered.

Plain data with a JSON form; knows neither Ray nor the sampler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from weiml.config import to_mapping
from weiml.errors import DataError

__all__ = ["SearchResult", "TrialRecord", "TrialState"]


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One finished trial; `value` is its last one, also where it was stopped early."""

    number: int
    state: TrialState
    params: Mapping[str, Any]
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[int, float] = field(default_factory=dict)
    """Intermediate values of the searched metric by step."""
    seconds: float = 0.0
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A finished search; `trials` by number, failed ones included."""

    name: str
    metric: str
    mode: str
    best: TrialRecord
    trials: tuple[TrialRecord, ...]
    importance: Mapping[str, float]
    """Each parameter's share in the metric's variation; empty with fewer than 4 complete trials."""
    space: Mapping[str, Any]
    num_new: int
    """Trials run by this call; the others were in the journal."""
    seconds: float
    """Wall time of this call."""

    @property
    def best_params(self) -> dict[str, Any]:
        """The parameters of the best complete trial."""
        return dict(self.best.params)

    @property
    def best_value(self) -> float:
        """The value of the best complete trial."""
        assert self.best.value is not None
        return self.best.value

    def to_mapping(self) -> dict[str, Any]:
        """The whole result, fit for JSON."""
        return to_mapping(self)

    def save(self, folder: str | Path, config: Mapping[str, Any] | None = None) -> None:
        """Write best.json (the winner) and trials.json (everything) into `folder`.

        `config` goes into best.json: the whole configuration that the winner stands for.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        best = {
            "name": self.name,
            "metric": self.metric,
            "mode": self.mode,
            "number": self.best.number,
            "value": self.best_value,
            "params": self.best_params,
            "metrics": dict(self.best.metrics),
            "config": dict(config or {}),
        }
        _write(target / "best.json", best)
        _write(target / "trials.json", self.to_mapping())

    @classmethod
    def load(cls, folder: str | Path) -> SearchResult:
        """Read what `save` wrote.

        Raises:
            DataError: trials.json is missing or not of that form.
        """
        path = Path(folder) / "trials.json"
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            tree["best"] = _record(tree["best"])
            tree["trials"] = tuple(_record(trial) for trial in tree["trials"])
            return cls(**tree)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not the result of a search: {error}") from None


def _record(tree: dict[str, Any]) -> TrialRecord:
    steps = {int(step): value for step, value in tree["steps"].items()}
    return TrialRecord(**{**tree, "state": TrialState(tree["state"]), "steps": steps})


def _write(path: Path, tree: Mapping[str, Any]) -> None:
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
