"""A stream's run: batch by batch from a source through operators to a sink, exactly once.

    read ─ decode ─ set late and repeated events apart ─ operations ─ operators ─ results
                                                                                     │
    checkpoint N: positions, state and results, whole or not there ◄─────────────────┘
        └► results N to the sink, which keeps one result a number

A run that dies goes on from its last checkpoint: it reads again what came after, and its results
replace those that were not in a checkpoint.
"""

from __future__ import annotations

import enum
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.data.durations import milliseconds
from weiml.data.streams.base import EventSource, MemorySink, Sink
from weiml.data.streams.checkpoint import Checkpoint, Checkpoints
from weiml.data.streams.config import StreamConfig
from weiml.data.streams.decode import Decoder
from weiml.data.streams.intake import Intake, Operations
from weiml.data.streams.operators import EVENTS, LATE, Operator
from weiml.data.streams.progress import Progress
from weiml.data.streams.quarantine import Quarantine
from weiml.data.streams.watermark import BEGIN, END, event_times
from weiml.errors import ConfigError

__all__ = ["StreamRun", "StreamState", "Until", "run_stream"]

log = logging.getLogger(__name__)

_INTAKE = "intake"  # the name of its state among the operators'


class StreamState(enum.Enum):
    """Where a run stands. Each `StreamRun.step` takes at most one transition."""

    NEW = "new"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class StreamRun:
    """One run, see this module. Not thread-safe, but for `stop` and `status`.

    Args:
        source: is closed at the end.
        decoder: makes columns of the events' bytes.
        config: times, limits and intervals.
        operations: applied to the events that count, row by row.
        operators: in order; each reads the events or the stream of one before it.
        sink: is given the results of each checkpoint, and closed at the end; in memory by default.
        checkpoint_dir: of this run alone.
        quarantine: takes bad events; counts only by default.

    Raises:
        ConfigError: names of operators clash or are unknown, or another run uses `checkpoint_dir`.
            The first `step` raises it for state of other settings, and for a sink or a quarantine
            that holds parts of another run.
    """

    def __init__(
        self,
        source: EventSource,
        decoder: Decoder,
        config: StreamConfig,
        *,
        checkpoint_dir: str | Path,
        operations: Operations | None = None,
        operators: Sequence[Operator] = (),
        sink: Sink | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        _check_names(operators)
        self.config = config
        self.sink = MemorySink() if sink is None else sink
        self.state = StreamState.NEW
        self._source = source
        self._intake = Intake(config, decoder, quarantine or Quarantine(), operations)
        self._operators = {operator.name: operator for operator in operators}
        self._checkpoints = Checkpoints(checkpoint_dir, config.keep_checkpoints)
        self._progress = Progress(config.name, milliseconds(config.log_every, "log_every") / 1e3)
        self._every_s = milliseconds(config.checkpoint_every, "checkpoint_every") / 1e3
        self._results: dict[str, list[pa.Table]] = {}
        self._number = 0
        self._saved_at = time.monotonic()
        self._saved: tuple[int, int] = (0, BEGIN)  # events and watermark of the last checkpoint
        self._caught_up = False
        self._stop = threading.Event()
        self._finish = False

    def step(self) -> StreamState:
        """Do the next thing: begin, one batch, or end; return where the run then stands.

        Raises:
            WeimlError: reading, an operator or writing failed; the run has then FAILED, and a new
                one goes on from its last checkpoint.
        """
        try:
            if self.state is StreamState.NEW:
                self._begin()
                self.state = StreamState.RUNNING
            elif self.state is StreamState.RUNNING:
                if self._stop.is_set():
                    self.state = StreamState.STOPPING
                else:
                    self._batch()
            elif self.state is StreamState.STOPPING:
                self._end()
                self.state = StreamState.STOPPED
        except BaseException:
            self._fail()
            raise
        return self.state

    def stop(self, *, finish: bool = False) -> None:
        """Ask the run to end: with a checkpoint, after the batch it is at. From any thread.

        Args:
            finish: the stream is over: give all windows and labels that still wait. Events that
                come to this checkpoint later on are late.
        """
        self._finish = self._finish or finish
        self._stop.set()

    def run(self, until: Until = None) -> dict[str, Any]:
        """Step until the run has stopped, SIGTERM or SIGINT comes, or `until` says so.

        Args:
            until: called with the status after each step; ``"caught_up"``: stop once nothing
                waits; ``"end"``: then also `finish`, since no more events will ever come.

        Returns:
            The last status.

        Raises:
            WeimlError: as `step`.
        """
        with _ending_on_signals(self.stop):
            while self.step() not in (StreamState.STOPPED, StreamState.FAILED):
                if self.state is StreamState.RUNNING and self._is_reached(until):
                    self.stop(finish=until == "end")
        return self.status()

    @property
    def caught_up(self) -> bool:
        """Whether the last step found nothing to read and nothing is known to wait."""
        return self._caught_up

    def status(self) -> dict[str, Any]:
        """Return where the run stands, fit for JSON.

        state, checkpoint (number), events, events_per_second, late, repeated, without_id,
        quarantined, lag (in all), watermark and newest (ms of event time, None before the first),
        operators (by name).
        """
        marks = self._intake.watermarks
        return {
            "name": self.config.name,
            "state": self.state.value,
            "checkpoint": self._number,
            **self._intake.counts,
            "quarantined": self._intake.quarantine.count,
            "events_per_second": self._progress.rate,
            "lag": self._progress.lag,
            "watermark": _shown(marks.value),
            "newest": _shown(marks.newest),
            "operators": {name: part.status() for name, part in self._operators.items()},
        }

    def checkpoint(self) -> None:
        """Take a checkpoint now and give its results to the sink."""
        number = self._number + 1
        tree, tables = self._intake.state()
        results = {
            stream: pa.concat_tables(parts, promote_options="permissive")
            for stream, parts in self._results.items()
        }
        positions = self._source.position()
        state = {name: operator.state() for name, operator in self._operators.items()}
        self._intake.quarantine.write(number)
        self._checkpoints.save(
            Checkpoint(
                number=number,
                manifest={"positions": positions, "intake": tree, "settings": self._settings()},
                state={**state, _INTAKE: tables},
                results=results,
            )
        )
        self._number = number
        self._results.clear()
        self.sink.write(number, results)
        oldest = self._checkpoints.oldest()
        self._source.saved(positions, None if oldest is None else oldest["positions"])
        self._saved_at = time.monotonic()
        self._saved = self._done()

    def _begin(self) -> None:
        """Go on from the last whole checkpoint, if there is one."""
        checkpoint, wrong = self._checkpoints.load()
        for text in wrong:
            log.warning("%s: %s; going on from an older one", self.config.name, text)
        self._number = 0 if checkpoint is None else checkpoint.number
        self._checkpoints.discard_after(self._number)
        if checkpoint is not None:
            self._check_settings(checkpoint.manifest["settings"])
        self._intake.quarantine.begin(self._number, self._checkpoints.run)
        self.sink.begin(self._number, self._checkpoints.run)
        if checkpoint is not None:
            self._intake.restore(checkpoint.manifest["intake"], checkpoint.state[_INTAKE])
            for name, operator in self._operators.items():
                operator.restore(checkpoint.state[name])
            self.sink.write(self._number, checkpoint.results)
        positions = {} if checkpoint is None else checkpoint.manifest["positions"]
        self._source.seek(positions)
        self._saved = self._done()
        self._progress.begin()
        log.info("%s: begins after checkpoint %d", self.config.name, self._number)

    def _batch(self) -> None:
        raw = self._source.poll(self.config.batch_events, self.config.poll_s)
        if len(raw):
            taken = self._intake.take(raw, self._source)
            if self.config.give_late:
                self._give(LATE, taken.late)
            if self.config.give_events:
                self._give(EVENTS, taken.events)
            self._feed(EVENTS, taken.events, taken.times)
        lag = self._source.lag()
        self._caught_up = not len(raw) and not any(lag.values())
        self._advance(self._intake.advance(self._source, lag))
        self._progress.count(len(raw), sum(lag.values()), self.status)
        if self._is_due():
            self.checkpoint()

    def _end(self) -> None:
        if self._finish:
            self._advance(self._intake.watermarks.finish())
        if self._done() != self._saved or self._results:
            self.checkpoint()
        self._close()
        log.info("%s: stopped at checkpoint %d", self.config.name, self._number)

    def _fail(self) -> None:
        self.state = StreamState.FAILED
        try:
            # What was set aside says why; the next run writes this part anew.
            self._intake.quarantine.write(self._number + 1)
        finally:
            self._close()

    def _close(self) -> None:
        self._source.close()
        self.sink.close()
        self._checkpoints.close()

    def _feed(self, stream: str, events: pa.Table, times: np.ndarray) -> None:
        if events.num_rows:
            for operator in self._operators.values():
                if operator.source == stream:
                    operator.add(events, times)

    def _advance(self, watermark: int) -> None:
        """Move the operators on, each after those that it reads."""
        reached = {EVENTS: watermark}
        for name, operator in self._operators.items():
            at = reached[operator.source]
            rows = operator.advance(at)
            reached[name] = at if at in (BEGIN, END) else at - operator.delay_ms
            if rows is not None and rows.num_rows:
                self._give(name, rows)
                if any(other.source == name for other in self._operators.values()):
                    self._feed(name, rows, self._times(rows))

    def _times(self, rows: pa.Table) -> np.ndarray:
        return event_times(rows, self.config.time, self.config.time_unit)

    def _give(self, stream: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._results.setdefault(stream, []).append(rows)

    def _done(self) -> tuple[int, int]:
        return self._intake.counts["events"], self._intake.watermarks.value

    def _is_due(self) -> bool:
        if self._done() == self._saved and not self._results:
            return False
        events = self._intake.counts["events"] - self._saved[0]
        late = time.monotonic() - self._saved_at >= self._every_s
        return late or events >= self.config.checkpoint_events

    def _is_reached(self, until: Until) -> bool:
        if until is None:
            return False
        if callable(until):
            return until(self.status())
        return self.caught_up

    def _settings(self) -> dict[str, Any]:
        operators = {name: dict(operator.config) for name, operator in self._operators.items()}
        names = ("time", "time_unit", "lateness", "id")
        return {"operators": operators, **{name: getattr(self.config, name) for name in names}}

    def _check_settings(self, saved: Mapping[str, Any]) -> None:
        """Refuse state that means something else than the settings say."""
        now = self._settings()
        for name, value in now.items():
            if saved.get(name) != value:
                raise ConfigError(
                    f"checkpoint {self._number} in {self._checkpoints.folder} is of another "
                    f"setting: {name} was {saved.get(name)!r}, is {value!r}. Set it back, or begin "
                    "anew in an empty folder"
                )


Until: TypeAlias = Callable[[dict[str, Any]], bool] | Literal["caught_up", "end"] | None


def run_stream(
    source: EventSource,
    decoder: Decoder,
    config: StreamConfig,
    *,
    checkpoint_dir: str | Path,
    operations: Operations | None = None,
    operators: Sequence[Operator] = (),
    sink: Sink | None = None,
    quarantine: Quarantine | None = None,
    until: Until = None,
) -> dict[str, Any]:
    """Run a stream until it is told to stop, and return its last status; see `StreamRun`."""
    run = StreamRun(
        source, decoder, config, checkpoint_dir=checkpoint_dir, operations=operations,
        operators=operators, sink=sink, quarantine=quarantine,
    )  # fmt: skip
    return run.run(until)


def _check_names(operators: Sequence[Operator]) -> None:
    known = [EVENTS]
    for operator in operators:
        if not re.fullmatch(r"\w[\w.-]*", operator.name):
            raise ConfigError(
                f"operator {operator.name!r}: a name is letters, digits, _, - and ., since files "
                "are named after it"
            )
        if operator.name in (*known, LATE, _INTAKE):
            raise ConfigError(f"the name {operator.name!r} is taken: give each operator its own")
        if operator.source not in known:
            raise ConfigError(
                f"operator {operator.name!r} reads {operator.source!r}, which is no stream before "
                f"it{nearest(operator.source, known)}"
            )
        known.append(operator.name)


def _shown(value: int) -> int | None:
    return None if value in (BEGIN, END) else value


@contextmanager
def _ending_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first SIGTERM or SIGINT; a second SIGINT interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if came.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
