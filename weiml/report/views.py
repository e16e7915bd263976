"""From data to what each table and tile of the page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from weiml.report.data import Evaluation, ReportData
from weiml.report.text import fixed, number, seconds, signed

__all__ = [
    "METRICS",
    "MetricColumn",
    "epoch_rows",
    "metric_columns",
    "metric_rows",
    "online_view",
    "search_view",
    "tiles",
]


@dataclass(frozen=True)
class MetricColumn:
    """A column of the table of metrics and what is good in it."""

    key: str
    title: str
    hint: str
    aim: Literal["high", "low", "one"]

    def badness(self, value: float) -> float:
        """Smaller is better."""
        return {"high": -value, "low": value, "one": abs(value - 1.0)}[self.aim]


METRICS = (
    MetricColumn("auc", "AUC", "higher is better", "high"),
    MetricColumn("gauc", "GAUC by user", "higher is better", "high"),
    MetricColumn("log_loss", "log-loss", "lower is better", "low"),
    MetricColumn("ne", "normalized entropy", "lower is better", "low"),
    MetricColumn("calibration_ratio", "calibration ratio", "1 is best", "one"),
    MetricColumn("ndcg_at_10", "NDCG@10", "higher is better", "high"),
)


def metric_columns(evaluations: Sequence[Evaluation]) -> tuple[MetricColumn, ...]:
    """Columns of the table of metrics: what any has, so none of groups where there are none."""
    return tuple(
        column
        for column in METRICS
        if any(e.metrics.get(column.key) is not None for e in evaluations)
    )


def metric_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Rows of the table of metrics: models, then baselines; the best of each column is marked."""
    best: dict[str, float] = {}
    columns = metric_columns(evaluations)
    for column in columns:
        values = [e.metrics.get(column.key) for e in evaluations]
        known = [column.badness(value) for value in values if value is not None]
        if known:
            best[column.key] = min(known)
    ordered = sorted(evaluations, key=lambda e: e.kind == "baseline")
    return [
        {
            "name": evaluation.name,
            "kind": evaluation.kind,
            "cells": [_cell(column, evaluation, best) for column in columns],
        }
        for evaluation in ordered
    ]


def _cell(
    column: MetricColumn, evaluation: Evaluation, best: Mapping[str, float]
) -> dict[str, Any]:
    value = evaluation.metrics.get(column.key)
    wins = value is not None and column.badness(value) == best[column.key]
    return {"text": fixed(value), "best": wins}


def epoch_rows(data: ReportData) -> list[tuple[str, ...]]:
    """One row an epoch of each model."""
    return [
        (
            curve.name,
            _epoch(epoch, curve.best_epoch),
            fixed(epoch.get("train_loss")),
            fixed(epoch.get("validation_log_loss")),
            fixed(epoch.get("validation_auc")),
            f"{epoch['examples_per_second']:,.0f}" if "examples_per_second" in epoch else "",
        )
        for curve in data.learning
        for epoch in curve.epochs
    ]


def _epoch(epoch: Mapping[str, Any], best: int | None) -> str:
    which = epoch.get("epoch")
    return f"{which}, kept" if which == best else str(which)


def tiles(data: ReportData) -> list[dict[str, str]]:
    """The few numbers on top."""
    made = (
        _quality_tile(data, "auc", "Test AUC", max),
        _quality_tile(data, "log_loss", "Test log-loss", min),
        _search_tile(data.search),
        _online_tile(data.replay),
    )
    return [tile for tile in made if tile is not None]


def _quality_tile(data: ReportData, key: str, label: str, better: Any) -> dict[str, str] | None:
    values = {
        kind: [
            (e.metrics[key], e.name)
            for e in data.evaluations
            if e.kind == kind and e.metrics.get(key) is not None
        ]
        for kind in ("model", "baseline")
    }
    if not values["model"]:
        return None
    served = data.facts.get("Model", {}).get("served")
    shown = [pair for pair in values["model"] if pair[1] == served]
    value, name = shown[0] if shown else better(values["model"])
    note = f"{name}, served" if shown else name
    if values["baseline"]:
        base, base_name = better(values["baseline"])
        note += f"; best baseline {fixed(base)} ({base_name})"
    return {"label": label, "value": fixed(value), "note": note}


def _search_tile(search: Mapping[str, Any]) -> dict[str, str] | None:
    if not search:
        return None
    metric = str(search["metric"]).replace("_", "-")
    trials = len(search["trials"])
    return {
        "label": "Search",
        "value": fixed(search["best"]["value"]),
        "note": f"validation {metric}, trial {search['best']['number']}; {trials} trials",
    }


def _online_tile(replay: Mapping[str, Any]) -> dict[str, str] | None:
    online, frozen = _auc(replay, "online"), _auc(replay, "frozen")
    if online is None or frozen is None:
        return None
    return {
        "label": "Online AUC",
        "value": fixed(online),
        "note": f"{signed(online - frozen)} against the frozen model",
    }


def _auc(replay: Mapping[str, Any], side: str) -> float | None:
    value = replay.get(side, {}).get("auc") if replay else None
    return None if value is None else float(value)


def search_view(search: Mapping[str, Any]) -> dict[str, Any]:
    """Texts and tables of the search."""
    states = Counter(trial["state"] for trial in search["trials"])
    ended = ", ".join(f"{count} {state}" for state, count in states.items())
    metric = str(search["metric"]).replace("_", "-")
    names = list(search["space"])
    others = [k for k in search["best"].get("metrics", {}) if k in ("auc", "gauc", "log_loss")]
    others = [key for key in others if key != search["metric"]]
    aim = "lowest" if search["mode"] == "min" else "highest"
    return {
        "text": (
            f"{len(search['trials'])} trials ({ended}) looked for the {aim} {metric} on the "
            f"validation period; the best is trial {search['best']['number']} with "
            f"{fixed(search['best']['value'], 5)}."
        ),
        "best_rows": [(name, _value(search["best"]["params"].get(name))) for name in names],
        "importance": dict(search.get("importance", {})),
        "head": ["trial", "state", metric, *others, *names, "seconds"],
        "rows": [_trial_row(trial, names, others) for trial in search["trials"]],
    }


def _trial_row(
    trial: Mapping[str, Any], names: Sequence[str], others: Sequence[str]
) -> tuple[str, ...]:
    return (
        str(trial["number"]),
        f"{trial['state']}: {trial['reason']}" if trial.get("reason") else str(trial["state"]),
        fixed(trial["value"], 5),
        *(fixed(trial.get("metrics", {}).get(name)) for name in others),
        *(_value(trial["params"].get(name)) for name in names),
        seconds(trial.get("seconds")),
    )


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def online_view(replay: Mapping[str, Any]) -> dict[str, Any]:
    """Texts and tables of online learning."""
    online, frozen = replay.get("online", {}), replay.get("frozen", {})
    titles = {column.key: column.title for column in METRICS}
    rows = [
        (title, fixed(online[key]), fixed(frozen[key]), _difference(online[key], frozen[key]))
        for key, title in titles.items()
        if key in online and key in frozen
    ]
    freshness = replay.get("freshness_ms", {})
    versions = list(replay.get("versions", ()))
    chunk = replay.get("config", {}).get("chunk_size")
    delivery = [
        ("events", number(replay.get("num_events", len(replay.get("curve", ()))))),
        ("requests", number(replay.get("num_requests", "–"))),
        ("updates", number(len(replay.get("curve", ())))),
        ("versions", number(len(versions))),
        ("replicas", number(len(replay.get("replicas", ())))),
        *((f"freshness {name}", f"{value:.0f} ms") for name, value in freshness.items()),
        ("whole replay", seconds(replay.get("seconds"))),
    ]
    difference = replay.get("first_chunk_max_difference")
    if difference is not None:
        delivery.append(("served against offline", f"{difference:.1e} at most, first chunk"))
    size = f" of {number(chunk)} events" if chunk else ""
    return {
        "text": (
            f"The test period replays in time order, in chunks{size}: each chunk is scored by the "
            "live endpoint, then learned from, then delivered to all replicas without a restart. "
            "The frozen model scores the same events and never learns."
        ),
        "rows": rows,
        "delivery": delivery,
        "versions": versions,
    }


def _difference(one: float | None, other: float | None) -> str:
    return signed(None if one is None or other is None else one - other)
