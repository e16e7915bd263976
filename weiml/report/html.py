"""The page: one HTML file with its own style and pictures, which loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import weiml.report.figures as draw
from weiml.report.data import ReportData
from weiml.report.text import FILTERS, number, package_version, seconds
from weiml.report.views import (
    epoch_rows,
    metric_columns,
    metric_rows,
    online_view,
    search_view,
    tiles,
)

__all__ = ["SECTIONS", "render", "write_report"]

SECTIONS = {
    "run": "The run",
    "flow": "Flow",
    "learning": "Learning",
    "metrics": "Quality",
    "search": "Search",
    "feeds": "Ranked feeds",
    "online": "Online learning",
}
_DEFAULT_REASON = "no data was given for it"


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write the page to `path` and its numbers to ``numbers.json`` beside it; returns `path`.

    Raises:
        DataError: a number is NaN or infinite.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data.save(target.with_name("numbers.json"))
    aside = target.with_name(target.name + ".part")
    aside.write_text(render(data), encoding="utf-8")
    aside.replace(target)
    return target


def render(data: ReportData) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=PackageLoader("weiml.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= FILTERS
    assert environment.loader is not None
    css = environment.loader.get_source(environment, "report.css")[0]
    present = _present(data)
    return environment.get_template("report.html.j2").render(
        data=data,
        css=css,
        version=package_version("weiml"),
        subtitle=_subtitle(data),
        tiles=tiles(data),
        sections=[(id, title) for id, title in SECTIONS.items() if present[id]],
        left_out=_left_out(data, present),
        node_rows=[
            (
                node.id,
                node.engine,
                node.state,
                seconds(node.seconds),
                seconds(node.computed_seconds),
            )
            for node in data.nodes
        ],
        epoch_rows=epoch_rows(data),
        metric_columns=metric_columns(data.evaluations),
        metric_rows=metric_rows(data.evaluations),
        search=search_view(data.search) if present["search"] else None,
        online=online_view(data.replay) if present["online"] else None,
        pictures=_pictures(data),
    )


def _present(data: ReportData) -> dict[str, bool]:
    return {
        "run": bool(data.facts),
        "flow": bool(data.flow_svg or data.nodes),
        "learning": bool(data.learning),
        "metrics": bool(data.evaluations),
        "search": bool(data.search),
        "feeds": bool(data.feeds),
        "online": bool(data.replay),
    }


def _left_out(data: ReportData, present: Mapping[str, bool]) -> list[tuple[str, str]]:
    return [
        (title, str(data.missing.get(id, _DEFAULT_REASON)))
        for id, title in SECTIONS.items()
        if not present[id]
    ]


def _pictures(data: ReportData) -> dict[str, Any]:
    ordered = sorted(data.evaluations, key=lambda evaluation: evaluation.kind == "baseline")
    return {
        "learning": [
            draw.learning_plot(data.learning),
            draw.validation_plot(data.learning, "validation_log_loss", "Validation log-loss"),
            draw.validation_plot(data.learning, "validation_auc", "Validation AUC"),
        ],
        "metrics": [draw.roc_plot(ordered), draw.calibration_plot(ordered)],
        "search": [draw.search_history_plot(data.search)],
        "slices": draw.search_slice_plot(data.search),
        "online": [draw.replay_plot(data.replay), draw.freshness_plot(data.replay)],
    }


def _subtitle(data: ReportData) -> str:
    total = sum(node.seconds for node in data.nodes)
    parts = []
    if data.nodes:
        parts.append(
            f"{number(len(data.nodes))} nodes before this one, {seconds(total)} in this run"
        )
    created = data.facts.get("Run", {}).get("created") if data.facts else None
    if created:
        parts.append(str(created))
    return " · ".join(parts)
