"""The report on the terminal: what there is, and nothing where there is nothing."""

from __future__ import annotations

import io

from rich.console import Console

from weiml.report import Evaluation, Feed, RankedItem, ReportData, print_report


def printed(data: ReportData) -> str:
    text = io.StringIO()
    print_report(data, console=Console(file=text, width=120))
    return text.getvalue()


def test_an_empty_report_prints_nothing() -> None:
    assert printed(ReportData()) == ""


def test_metrics_search_feeds_and_replay_are_told() -> None:
    metrics = {"auc": 0.75, "gauc": None, "log_loss": 0.5812345}
    summary = {"auc": 0.76, "log_loss": 0.57}
    feeds = tuple(
        Feed(
            user={"user_id": user, "age": 30, "gender": "F"},
            items=(RankedItem(title="Heat [The]", score=0.91234, genres=("Crime",)),),
            version="abc.7",
        )
        for user in (13, 14, 15)
    )
    data = ReportData(
        evaluations=(
            Evaluation(name="lr", metrics=metrics),
            Evaluation(name="popularity", kind="baseline", metrics=metrics),
        ),
        search={
            "metric": "log_loss",
            "trials": [{}, {}],
            "best": {"number": 1, "value": 0.59, "params": {"lr": 0.0005, "dim": 8}},
        },
        feeds=feeds,
        replay={
            "online": summary,
            "frozen": {"auc": 0.7511, "log_loss": 0.58},
            "num_events": 1000,
            "versions": ["a.1", "a.2"],
            "replicas": {"x": 1},
            "freshness_ms": {"p50": 21.4},
        },
    )
    text = printed(data)
    assert "popularity (baseline)" in text
    assert "0.5812" in text
    assert "GAUC" not in text  # no model has it, as where there are no groups
    assert "2 trials, best log_loss 0.5900 in trial 1: lr=0.0005, dim=8" in text
    assert "Feed of user 13 (F, 30) by version abc.7" in text
    assert "0.9123" in text
    assert "Heat [The]" in text  # square brackets are no markup
    assert "user 15" not in text
    assert "AUC 0.7600 against 0.7511 frozen" in text
    assert "21 ms" in text
