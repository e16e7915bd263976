"""Showing a run: live lines on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from weiml.flow.graph import Flow, Node
from weiml.flow.ledger import State
from weiml.flow.result import NodeResult

__all__ = ["PlainReporter", "ProgressMode", "Reporter", "RichReporter", "open_reporter"]

ProgressMode = Literal["auto", "rich", "plain", "none"]

_EVERY_S = 5.0  # between two plain lines of the same step
_MARKS = {
    State.PENDING: ("·", "dim"),
    State.RUNNING: ("▶", "cyan"),
    State.SUCCEEDED: ("✔", "green"),
    State.CACHED: ("=", "blue"),
    State.FAILED: ("✘", "red"),
    State.CANCELLED: ("■", "yellow"),
}


class Reporter:
    """Told of what happens in a run, from one thread; shows nothing unless overridden."""

    def start(self, flow: Flow) -> None:
        """The run starts."""

    def node_started(self, node: Node, reason: str) -> None:
        """A node runs, and why it is not taken from the cache."""

    def step_progress(
        self, node: Node, text: str, done: float | None = None, total: float | None = None
    ) -> None:
        """A step is so far."""

    def node_retried(self, node: Node, error: str, pause_s: float) -> None:
        """An attempt failed; the next starts after a pause."""

    def node_finished(self, node: Node, result: NodeResult) -> None:
        """A node ended, or was taken from the cache."""

    def close(self) -> None:
        """The run ended, however it did."""


class PlainReporter(Reporter):
    """One line an event on standard error; for logs."""

    def __init__(self) -> None:
        self._shown = ("", 0.0)
        self._flow: Flow | None = None

    def start(self, flow: Flow) -> None:
        """Say which flow, of how many nodes."""
        self._flow = flow
        self._line(f"flow {flow.name}: {len(flow.nodes)} nodes")

    def node_started(self, node: Node, reason: str) -> None:
        """Say which node, and why it runs."""
        self._line(f"{self._place(node)} running on {node.engine} ({reason})")

    def step_progress(
        self, node: Node, text: str, done: float | None = None, total: float | None = None
    ) -> None:
        """Say how far, at most every few seconds unless a step begins anew or ends."""
        what, when = self._shown
        last = total is not None and done is not None and done >= total
        if text == what and not last and time.monotonic() - when < _EVERY_S:
            return
        if text != what and time.monotonic() - when < 1.0 and not last:
            return
        self._shown = (text, time.monotonic())
        share = "" if done is None else f" {done:g}" + ("" if total is None else f"/{total:g}")
        self._line(f"{self._place(node)} {text}{share}")

    def node_retried(self, node: Node, error: str, pause_s: float) -> None:
        """Say what failed, and when it is tried again."""
        self._line(f"{self._place(node)} failed, next attempt in {pause_s:.1f} s: {error}")

    def node_finished(self, node: Node, result: NodeResult) -> None:
        """Say how it ended, and in what time."""
        self._line(f"{self._place(node)} {_summary(result)}")

    def _place(self, node: Node) -> str:
        order = self._flow.order if self._flow else ()
        return f"[{order.index(node) + 1}/{len(order)}] {node.id}:"

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class RichReporter(Reporter):
    """A line a node, kept up to date on the terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[mark]}"),
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            TextColumn("[dim]{task.fields[engine]}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            # A long text is cut: it shall not squeeze the other columns.
            TextColumn(
                "{task.fields[text]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            expand=True,
            console=console,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}

    def start(self, flow: Flow) -> None:
        """Draw all nodes as pending."""
        for node in flow.order:
            self._tasks[node.id] = self._progress.add_task(
                node.id,
                start=False,
                total=1,
                engine=node.engine,
                text="",
                mark=_mark(State.PENDING),
            )
        self._progress.start()

    def node_started(self, node: Node, reason: str) -> None:
        """Start the node's clock."""
        self._progress.start_task(self._tasks[node.id])
        self._update(node, mark=_mark(State.RUNNING), total=None, text=reason)

    def step_progress(
        self, node: Node, text: str, done: float | None = None, total: float | None = None
    ) -> None:
        """Move the node's bar."""
        self._update(node, text=text, total=total, completed=done or 0.0)

    def node_retried(self, node: Node, error: str, pause_s: float) -> None:
        """Say above the lines what failed."""
        self._progress.console.print(
            Text(f"{node.id}: next attempt in {pause_s:.1f} s after: {error}", style="yellow")
        )

    def node_finished(self, node: Node, result: NodeResult) -> None:
        """Stop the node's clock."""
        self._progress.stop_task(self._tasks[node.id])
        done = result.state in (State.SUCCEEDED, State.CACHED)
        self._update(
            node,
            mark=_mark(result.state),
            total=1,
            completed=1 if done else 0,
            text=_summary(result),
        )

    def close(self) -> None:
        """Leave the last picture standing."""
        self._progress.stop()

    def _update(self, node: Node, **fields: object) -> None:
        self._progress.update(self._tasks[node.id], **fields)  # type: ignore[arg-type]


def open_reporter(progress: ProgressMode | Reporter) -> Reporter:
    """Make the reporter for a mode; "auto" is rich on a terminal and plain elsewhere."""
    if isinstance(progress, Reporter):
        return progress
    console = Console(stderr=True)
    if progress == "rich" or (progress == "auto" and console.is_terminal):
        return RichReporter(console)
    return Reporter() if progress == "none" else PlainReporter()


def _mark(state: State) -> str:
    mark, colour = _MARKS.get(state, ("?", "dim"))
    return f"[{colour}]{mark}[/]"


def _summary(result: NodeResult) -> str:
    if result.state is State.CACHED:
        return f"from the cache ({result.computed_seconds:.1f} s saved)"
    if result.state is State.SUCCEEDED:
        return f"done in {result.seconds:.1f} s"
    return f"{result.state.value} after {result.seconds:.1f} s"
