"""A report on the terminal: metrics, the search, a few feeds, online against frozen."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from weiml.report.data import Feed, ReportData

__all__ = ["print_report"]

_WIDTH = 120  # in a log nothing tells the width

_METRICS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log-loss",
    "ne": "NE",
    "calibration_ratio": "calibration",
    "ndcg_at_10": "NDCG@10",
}


def print_report(data: ReportData, *, num_feeds: int = 2, console: Console | None = None) -> None:
    """Print what there is of a report; `num_feeds` ranked feeds beside each other."""
    to = console or Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    if data.evaluations:
        to.print(_quality(data))
    if data.search:
        to.print(_search(data.search))
    for feed in data.feeds[:num_feeds]:
        to.print(_feed(feed))
    if data.replay:
        to.print(_online(data.replay))


def _quality(data: ReportData) -> Table:
    table = Table(title="Test period", title_justify="left", box=None, pad_edge=False)
    table.add_column("model")
    shown = [m for m in _METRICS if any(e.metrics.get(m) is not None for e in data.evaluations)]
    for label in (_METRICS[metric] for metric in shown):
        table.add_column(label, justify="right")
    for evaluation in data.evaluations:
        name = evaluation.name
        if evaluation.kind == "baseline":
            name += " (baseline)"
        values = (evaluation.metrics.get(metric) for metric in shown)
        table.add_row(name, *(_number(value) for value in values))
    return table


def _search(search: dict[str, Any]) -> str:
    best = search["best"]
    params = ", ".join(f"{name}={_number(value)}" for name, value in best["params"].items())
    return (
        f"\nSearch: {len(search['trials'])} trials, best {search['metric']} "
        f"{_number(best['value'])} in trial {best['number']}: {params}"
    )


def _feed(feed: Feed) -> Group:
    known = (feed.user.get(key) for key in ("gender", "age", "occupation"))
    facts = ", ".join(str(value) for value in known if value is not None)
    head = f"\nFeed of user {feed.user.get('user_id')} ({facts}) by version {feed.version}"
    table = Table.grid(padding=(0, 2))
    for place, item in enumerate(feed.items, start=1):
        # Text, not str: a title's square brackets are no markup.
        table.add_row(f"{place:2}", f"{item.score:.4f}", Text(item.title), ", ".join(item.genres))
    return Group(Text(head), table)


def _online(replay: dict[str, Any]) -> str:
    online, frozen = replay["online"], replay["frozen"]
    return (
        f"\nOnline learning over {replay['num_events']:,} events, each scored, then learned:\n"
        f"  progressive AUC {_number(online['auc'])} against {_number(frozen['auc'])} frozen, "
        f"log-loss {_number(online['log_loss'])} against {_number(frozen['log_loss'])}\n"
        f"  {len(replay['versions'])} versions reached all replicas ({len(replay['replicas'])}) "
        f"without a restart, {replay['freshness_ms']['p50']:.0f} ms after their push (median)"
    )


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"
    return "-" if value is None else str(value)
