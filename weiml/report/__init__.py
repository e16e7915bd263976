"""The report of a run: one HTML page that opens without network, and its numbers as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weiml.report.data import (
    Curves,
    Evaluation,
    Feed,
    LearningCurve,
    NodeTime,
    RankedItem,
    ReportData,
)

if TYPE_CHECKING:
    from weiml.report.html import render, write_report
    from weiml.report.terminal import print_report

__all__ = [
    "Curves",
    "Evaluation",
    "Feed",
    "LearningCurve",
    "NodeTime",
    "RankedItem",
    "ReportData",
    "print_report",
    "render",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Matplotlib, jinja2 and rich are imported when a report is made or printed."""
    if name in ("render", "write_report"):
        from weiml.report import html

        return getattr(html, name)
    if name == "print_report":
        from weiml.report.terminal import print_report

        return print_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
