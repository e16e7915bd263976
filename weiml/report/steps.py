"""The step classes ``report.gather``, ``report.html`` and ``report.numbers``."""

from __future__ import annotations

from pathlib import Path

from weiml.errors import FlowError
from weiml.flow import StepContext, step
from weiml.report.data import ReportData
from weiml.report.gather import gather

__all__ = ["report_gather", "report_html", "report_numbers"]


@step("report.gather")
def report_gather(context: StepContext, *outputs: Path, title: str = "") -> ReportData:
    """Read all that a report shows from upstream outputs; their files tell what they are.

    In a node with ``cache="false"``: it also shows the times of this run.

    Args:
        context: of a process step.
        outputs: trainings, evaluations, baselines, a search, feeds, a replay, examples, a view.
        title: of the page; default the flow's name and data set.

    Raises:
        DataError: a file is there, but damaged.
    """
    folders = dict(zip(context.step.dependencies, outputs, strict=True))
    return gather(folders, context.history, title=title)


@step("report.html")
def report_html(context: StepContext, data: ReportData) -> None:
    """Write report.html, which opens without network, and numbers.json beside it."""
    from weiml.report.html import write_report

    write_report(context.output_dir / "report.html", _checked(context, data))
    for evaluation in data.evaluations:
        context.report(f"test {evaluation.name}", evaluation.metrics)


@step("report.numbers")
def report_numbers(context: StepContext, data: ReportData) -> None:
    """Write numbers.json: all numbers of the report."""
    _checked(context, data).save(context.output_dir / "numbers.json")


def _checked(context: StepContext, data: ReportData) -> ReportData:
    if not isinstance(data, ReportData):
        raise FlowError(
            f"{context.step.position}: step {context.step.name!r} takes what report.gather gives, "
            f"got {type(data).__name__}"
        )
    return data
