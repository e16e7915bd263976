"""The report's figures, from plain data to SVG texts; None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from weiml.report.data import Evaluation, LearningCurve
from weiml.report.svg import COLOURS, DASHES, LINE, MARKERS, figure, inline_svg

__all__ = [
    "calibration_plot",
    "freshness_plot",
    "learning_plot",
    "replay_plot",
    "roc_plot",
    "search_history_plot",
    "search_slice_plot",
    "validation_plot",
]

_SQUARE = (5.2, 5.4)
_WIDE = (5.6, 3.5)
_MANY_MARKERS = 30  # a curve with more points is drawn without markers


def learning_plot(curves: Sequence[LearningCurve]) -> str | None:
    """Training loss by examples seen."""
    drawn = [curve for curve in curves if curve.steps]
    if not drawn:
        return None
    with figure(*_WIDE) as (made, axes):
        for i, curve in enumerate(drawn):
            points = [(s["examples"], s["loss"]) for s in curve.steps if s.get("loss") is not None]
            _line(axes, i, *_columns(points), curve.name)
        axes.set(title="Training loss", xlabel="examples seen", ylabel="log-loss of the steps")
        axes.xaxis.set_major_formatter(_thousands)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.legend()
        return inline_svg(made, "learning", "Training loss by examples seen")


def validation_plot(curves: Sequence[LearningCurve], metric: str, label: str) -> str | None:
    """A validation metric by epoch, the epoch that was kept ringed."""
    drawn = [c for c in curves if any(e.get(metric) is not None for e in c.epochs)]
    if not drawn:
        return None
    with figure(*_WIDE) as (made, axes):
        for i, curve in enumerate(drawn):
            points = [(e["epoch"], e[metric]) for e in curve.epochs if e.get(metric) is not None]
            _line(axes, i, *_columns(points), curve.name)
            kept = [point for point in points if point[0] == curve.best_epoch]
            axes.plot(*_columns(kept), "o", ms=13, mfc="none", mec=_colour(i), mew=1.6)
        axes.set(title=label, xlabel="epoch (ringed: the one kept)", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.08, y=0.15)
        axes.legend()
        return inline_svg(made, f"validation-{metric.replace('_', '-')}", f"{label} by epoch")


def roc_plot(evaluations: Sequence[Evaluation]) -> str | None:
    """ROC curves."""
    drawn = [evaluation for evaluation in evaluations if evaluation.curves is not None]
    if not drawn:
        return None
    with figure(*_SQUARE) as (made, axes):
        axes.plot([0, 1], [0, 1], color=LINE, lw=1)
        for i, evaluation in enumerate(drawn):
            curves = evaluation.curves
            assert curves is not None
            auc = evaluation.metrics.get("auc")
            label = evaluation.name if auc is None else f"{evaluation.name} (AUC {auc:.3f})"
            axes.plot(
                curves.false_positive_rate,
                curves.true_positive_rate,
                color=_colour(i),
                ls=_dashes(i),
                label=label,
            )
        axes.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
        axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        made.legend(loc="outside lower left")
        return inline_svg(made, "roc", "ROC curves on the test period")


def calibration_plot(evaluations: Sequence[Evaluation]) -> str | None:
    """Share of positives against the mean score, by bins of equal counts."""
    drawn = [evaluation for evaluation in evaluations if evaluation.curves is not None]
    if not drawn:
        return None
    with figure(*_SQUARE) as (made, axes):
        axes.plot([0, 1], [0, 1], color=LINE, lw=1, label="perfect")
        for i, evaluation in enumerate(drawn):
            curves = evaluation.curves
            assert curves is not None
            _line(axes, i, curves.predicted, curves.observed, evaluation.name, size=4.5, width=1.4)
        axes.set(title="Calibration", xlabel="mean score of the bin", ylabel="share of positives")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        made.legend(loc="outside lower left", ncols=2)
        return inline_svg(made, "calibration", "Calibration on the test period")


def search_history_plot(search: Mapping[str, Any]) -> str | None:
    """Value of each trial, and the best so far."""
    trials = [trial for trial in search.get("trials", ()) if trial.get("value") is not None]
    if not trials:
        return None
    better = min if search["mode"] == "min" else max
    with figure(*_WIDE) as (made, axes):
        for state, marker, label in (("complete", "o", "trial"), ("pruned", "x", "stopped early")):
            points = [(t["number"], t["value"]) for t in trials if t["state"] == state]
            if points:
                face = COLOURS[0] if state == "complete" else LINE
                axes.plot(*_columns(points), marker, color=face, label=label, ms=7)
        complete = [(t["number"], t["value"]) for t in trials if t["state"] == "complete"]
        best, so_far = None, []
        for number, value in complete:
            best = value if best is None else better(best, value)
            so_far.append((number, best))
        axes.step(
            *_columns(so_far), where="post", color=COLOURS[1], ls=DASHES[1], label="best so far"
        )
        metric = str(search["metric"]).replace("_", "-")
        axes.set(title="Search history", xlabel="trial", ylabel=f"validation {metric}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        made.legend(loc="outside lower left", ncols=3)
        return inline_svg(made, "search-history", "Value of each trial and the best so far")


def search_slice_plot(search: Mapping[str, Any]) -> str | None:
    """The value over each parameter, one small plot a parameter; later trials are darker."""
    trials = [trial for trial in search.get("trials", ()) if trial.get("state") == "complete"]
    names = list(search.get("space", {}))
    if len(trials) < 2 or not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with figure(
        3.6 * columns, 2.7 * rows, nrows=rows, ncols=columns, squeeze=False, sharey=True
    ) as (
        made,
        grid,
    ):
        for axes, name in zip(grid.flat, names, strict=False):
            _slice(axes, name, search["space"][name], trials, search["best"]["number"])
        for axes in list(grid.flat)[len(names) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(str(search["metric"]).replace("_", "-"))
        return inline_svg(made, "search-slices", "Value of the trials over each parameter")


def replay_plot(replay: Mapping[str, Any]) -> str | None:
    """Progressive AUC of the online and the frozen model over the stream."""
    curve = [p for p in replay.get("curve", ()) if p.get("online_auc") is not None]
    if not curve:
        return None
    with figure(*_WIDE) as (made, axes):
        for i, (key, label) in enumerate((("online_auc", "online"), ("frozen_auc", "frozen"))):
            points = [(p["events"], p[key]) for p in curve if p.get(key) is not None]
            _line(axes, i, *_columns(points), label)
        # Over few events AUC jumps; those jumps shall not flatten the rest.
        late = curve[len(curve) // 10 :]
        values = [p[key] for p in late for key in ("online_auc", "frozen_auc") if p.get(key)]
        margin = 0.01 + 0.15 * (max(values) - min(values))
        axes.set_ylim(min(values) - margin, max(values) + margin)
        axes.set(title="Progressive AUC", xlabel="events of the test period", ylabel="AUC so far")
        axes.xaxis.set_major_formatter(_thousands)
        axes.legend()
        return inline_svg(made, "replay", "Progressive AUC, online against frozen")


def freshness_plot(replay: Mapping[str, Any]) -> str | None:
    """How long updates took to all replicas."""
    values = [
        p["freshness_ms"] for p in replay.get("curve", ()) if p.get("freshness_ms") is not None
    ]
    if not values:
        return None
    with figure(*_WIDE) as (made, axes):
        bins = np.histogram_bin_edges(values, bins=min(24, max(6, len(values) // 2)))
        axes.hist(values, bins=bins, color=COLOURS[0], alpha=0.85, rwidth=0.92)
        for share, dashes in ((50, DASHES[1]), (99, DASHES[2])):
            at = float(np.percentile(values, share))
            axes.axvline(at, color=COLOURS[1], ls=dashes, lw=1.6, label=f"p{share}: {at:.0f} ms")
        axes.set(title="Freshness", xlabel="last push to all replicas, ms", ylabel="updates")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        return inline_svg(made, "freshness", "Time from the last push to all replicas")


def _slice(
    axes: Any,
    name: str,
    parameter: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    best: int,
) -> None:
    places, labels = _places(parameter, [trial["params"].get(name) for trial in trials])
    values = [trial["value"] for trial in trials]
    ages = np.linspace(0.35, 1.0, len(trials))
    for place, value, age, trial in zip(places, values, ages, trials, strict=True):
        won = trial["number"] == best
        axes.plot(
            [place],
            [value],
            MARKERS[3] if won else MARKERS[0],
            color=COLOURS[1] if won else COLOURS[0],
            alpha=1.0 if won else float(age),
            ms=9 if won else 6,
            clip_on=False,
        )
    axes.set_title(name.rpartition(".")[2] if len(name) > 26 else name, fontsize=11)
    axes.margins(x=0.1, y=0.12)
    if not labels:
        axes.set_xlim(parameter["low"], parameter["high"])
        axes.xaxis.set_major_locator(MaxNLocator(4))
    if parameter.get("log"):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if labels:
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)


def _places(parameter: Mapping[str, Any], values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Numbers as they are; choices by position, with their labels."""
    if parameter.get("type") != "choice":
        return [float(value) for value in values], []
    choices = [str(choice) for choice in parameter["values"]]
    return [float(choices.index(str(value))) for value in values], choices


def _line(
    axes: Any,
    i: int,
    x: Sequence[float],
    y: Sequence[float],
    label: str,
    *,
    size: float = 6.0,
    width: float = 2.0,
) -> None:
    marker = MARKERS[_turn(i)] if len(x) <= _MANY_MARKERS else ""
    axes.plot(
        x,
        y,
        color=_colour(i),
        ls=_dashes(i),
        marker=marker,
        ms=size,
        lw=width,
        label=label,
    )


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _dashes(i: int) -> Any:
    return DASHES[_turn(i)]


def _turn(i: int) -> int:
    """Past the last colour, colours come again with other dashes and markers."""
    return (i + i // len(COLOURS)) % len(DASHES)


def _columns(points: Sequence[tuple[Any, Any]]) -> tuple[list[float], list[float]]:
    return [float(x) for x, _ in points], [float(y) for _, y in points]


def _thousands(value: float, position: int) -> str:
    return f"{value:,.0f}"
