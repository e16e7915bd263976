from __future__ import annotations

import io

import pytest
from rich.console import Console

from weiml.flow import FlowBuilder, State
from weiml.flow.progress import PlainReporter, Reporter, RichReporter, open_reporter
from weiml.flow.result import NodeResult


def play(reporter: Reporter) -> None:
    builder = FlowBuilder("feed")
    builder.node("load").process("s", "test.number")
    builder.node("train", preid="load").process("s", "test.number")
    flow = builder.build()
    load, train = flow.order
    reporter.start(flow)
    done = NodeResult(id="load", engine="python", state=State.CACHED, computed_seconds=4.0)
    reporter.node_finished(load, done)
    reporter.node_started(train, "first run")
    for epoch in range(50):
        reporter.step_progress(train, "fit: epoch", epoch, 50)
    reporter.node_retried(train, "no [luck]", 0.5)
    reporter.step_progress(train, "fit: epoch", 50, 50)
    bad = NodeResult(id="train", engine="python", state=State.FAILED, seconds=2.0)
    reporter.node_finished(train, bad)
    reporter.close()


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    play(PlainReporter())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "flow feed: 2 nodes",
        "[1/2] load: from the cache (4.0 s saved)",
        "[2/2] train: running on python (first run)",
        "[2/2] train: fit: epoch 0/50",
        "[2/2] train: failed, next attempt in 0.5 s: no [luck]",
        "[2/2] train: fit: epoch 50/50",
        "[2/2] train: failed after 2.0 s",
    ]


def test_the_live_picture_shows_each_node_once() -> None:
    out = io.StringIO()
    play(RichReporter(Console(file=out, force_terminal=True, width=100, color_system=None)))
    final = out.getvalue().rpartition("no [luck]")[2]
    assert "from the cache (4.0 s saved)" in final
    assert "failed after 2.0 s" in final


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    assert isinstance(open_reporter("auto"), RichReporter)
    monkeypatch.setattr(Console, "is_terminal", False)
    assert isinstance(open_reporter("auto"), PlainReporter)
    assert isinstance(open_reporter("rich"), RichReporter)
    assert type(open_reporter("none")) is Reporter
    mine = Reporter()
    assert open_reporter(mine) is mine
