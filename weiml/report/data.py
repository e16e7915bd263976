"""What a report is made of: plain data with a JSON form, each part optional.

Knows neither where the numbers come from nor how they are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError, DataError
from weiml.models import calibration_curve, roc_curve

__all__ = [
    "Curves",
    "Evaluation",
    "Feed",
    "LearningCurve",
    "NodeTime",
    "RankedItem",
    "ReportData",
]

_ROC_POINTS = 200
_BINS = 20


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """One node of the flow and how long it took."""

    id: str
    engine: str
    state: str
    seconds: float
    computed_seconds: float = 0.0
    """Time of the run that made its outputs; for a cached node an earlier one."""


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """How one model's training went."""

    name: str
    epochs: tuple[dict[str, Any], ...] = ()
    """One entry an epoch: epoch, train_loss, validation_auc, validation_log_loss, seconds, …"""
    steps: tuple[dict[str, Any], ...] = ()
    """One entry a progress report: examples, loss."""
    best_epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """ROC and calibration of one model's scores, thinned to what a picture shows."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    predicted: tuple[float, ...]
    """Mean score of each bin."""
    observed: tuple[float, ...]
    """Share of positives in it."""
    weight: tuple[float, ...]
    """Its examples."""

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray) -> Curves:
        """Compute them from labels and probabilities, both (n,)."""
        roc = roc_curve(labels, scores)
        calibration = calibration_curve(labels, scores, num_bins=_BINS)
        keep = np.linspace(0, len(roc.thresholds) - 1, _ROC_POINTS).round().astype(int)
        at = np.unique(np.clip(keep, 0, len(roc.thresholds) - 1))
        return cls(
            false_positive_rate=_floats(roc.false_positive_rate[at]),
            true_positive_rate=_floats(roc.true_positive_rate[at]),
            predicted=_floats(calibration.predicted),
            observed=_floats(calibration.observed),
            weight=_floats(calibration.weight),
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model or baseline on the test period."""

    name: str
    kind: Literal["model", "baseline"] = "model"
    metrics: dict[str, Any]
    """auc, gauc, log_loss, calibration_ratio, ndcg_at_10, …; None where not defined."""
    curves: Curves | None = None


@dataclass(frozen=True, kw_only=True)
class RankedItem:
    """One place in a feed."""

    title: str
    score: float
    item_id: str = ""
    rating: float | None = None
    """What the user gave it later, in the test period."""
    genres: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What one user was shown."""

    user: dict[str, Any]
    """Facts: user_id, age, occupation, …"""
    items: tuple[RankedItem, ...]
    """Best first."""
    seen_genres: dict[str, Any] = field(default_factory=dict)
    """How often the user had met each genre before."""
    version: str = ""
    """Of the model that ranked it."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All of a report. What is empty or None is left out of it, with a reason from `missing`."""

    title: str = "weiml report"
    facts: dict[str, Any] = field(default_factory=dict)
    """Groups of facts: ``{"Data": {"data set": "movielens-100k", …}, …}``."""
    flow_svg: str = ""
    """The flow's graph as an SVG text; trusted, it goes into the page as it is."""
    nodes: tuple[NodeTime, ...] = ()
    learning: tuple[LearningCurve, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    search: dict[str, Any] = field(default_factory=dict)
    """A `weiml.search.SearchResult` as its ``to_mapping`` gives it."""
    feeds: tuple[Feed, ...] = ()
    replay: dict[str, Any] = field(default_factory=dict)
    """A `weiml.serving.ReplayResult`'s summary."""
    missing: dict[str, Any] = field(default_factory=dict)
    """Section → why its data is not there."""

    def to_mapping(self) -> dict[str, Any]:
        """In JSON's types, without the drawing of the flow."""
        return {name: value for name, value in to_mapping(self).items() if name != "flow_svg"}

    def save(self, path: str | Path) -> None:
        """Write the numbers as JSON, aside first.

        Raises:
            DataError: a number is NaN or infinite; put None in its place.
        """
        target = Path(path)
        try:
            text = json.dumps(self.to_mapping(), indent=1, allow_nan=False, ensure_ascii=False)
        except (ValueError, TypeError) as error:
            raise DataError(f"the report's numbers do not fit into JSON: {error}") from None
        aside = target.with_name(target.name + ".part")
        aside.write_text(text + "\n", encoding="utf-8")
        aside.replace(target)

    @classmethod
    def load(cls, path: str | Path, *, flow_svg: str = "") -> ReportData:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing or not of that form; names the key.
        """
        try:
            tree = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(tree, Mapping):
                raise DataError(f"{path} does not hold a table but {type(tree).__name__}")
            return from_mapping(cls, {**tree, "flow_svg": flow_svg}, where=str(path))
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            detail = str(error) if isinstance(error, ConfigError) else f"{path}: {error}"
            raise DataError(f"this is not a report's numbers: {detail}") from None


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
