"""One attempt of a node: open the engine, run the steps, commit the outputs.

Outputs are written to a folder of the attempt, which one rename makes visible; a process that dies
before it leaves nothing that anyone would read.
"""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weiml.config import to_mapping
from weiml.errors import FlowError, WeimlError
from weiml.flow.binding import BoundNode, BoundStep
from weiml.flow.context import NodeContext, RunScope, StepContext
from weiml.flow.graph import Flow, StepKind
from weiml.flow.interrupts import NodeTimeoutError, shielded, time_limit
from weiml.flow.ledger import Ledger
from weiml.flow.manifest import Manifest, record_output
from weiml.flow.progress import Reporter
from weiml.flow.result import FlowResult

__all__ = ["ARTIFACTS", "ATTEMPTS", "WORK", "Attempt"]

ATTEMPTS = "attempts"
ARTIFACTS = "artifacts"
WORK = "work"

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Attempt:
    """One attempt, entered in the ledger as `number`; ``run`` is called once."""

    bound: BoundNode
    flow: Flow
    run_name: str
    number: int
    key: str
    components: Mapping[str, str]
    root: Path
    """The folder of runs."""
    ledger: Ledger
    scope: RunScope
    reporter: Reporter
    history: FlowResult
    """The run so far; the upstream nodes are in it."""

    def __post_init__(self) -> None:
        self._folder = self.root / ATTEMPTS / f"{self.number:06d}"
        self._made = self._folder / "outputs"
        self._scratch = self._folder / "scratch"
        self._work = self.root / WORK / self.flow.name / self.bound.node.id / self.key[:12]
        self._values: dict[str, Any] = {}
        self._reports: dict[str, Any] = {}
        self._step_seconds: dict[str, float] = {}
        self._current = ""

    def run(self) -> tuple[Manifest, Path]:
        """Run the steps and commit; returns the manifest and the folder that holds it.

        Raises:
            FlowError: a step failed, wrote nothing, or the time is over; names node and step.
            KeyboardInterrupt: as it came.
        """
        started = time.monotonic()
        try:
            for folder in (self._made, self._scratch):
                folder.mkdir(parents=True)
            self._run_steps()
            return self._commit(time.monotonic() - started)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run_steps(self) -> None:
        node, engine = self.bound.node, self.bound.engine
        place = f"{node.position}: node {node.id!r}"
        context = NodeContext(
            flow=self.flow,
            node=node,
            options=self.bound.options,
            scratch_dir=self._scratch,
            scope=self.scope,
            progress=self._progress,
        )
        opened: list[Any] = []
        failure: BaseException | None = None
        try:
            with time_limit(node.timeout_s, f"node {node.id!r}"):
                try:
                    opened.append(engine.open(node, context))
                except Exception as error:
                    raise _failed(
                        f"{place}: engine {node.engine!r} does not open", error
                    ) from error
                for item in self.bound.steps:
                    self._run_step(item, opened[0])
        except NodeTimeoutError:
            failure = FlowError(
                f"{place} took longer than timeout_s={node.timeout_s:g}; raise it, or find what "
                f"its step {self._current!r} waits for"
            )
        except BaseException as error:
            failure = error
        if opened:
            self._close(opened[0], failure)
        if failure is not None:
            raise failure

    def _close(self, session: Any, failure: BaseException | None) -> None:
        try:
            with shielded():
                self.bound.engine.close(session)
        except Exception as error:
            node = self.bound.node
            if failure is None:
                raise _failed(
                    f"{node.position}: node {node.id!r}: engine {node.engine!r} does not close",
                    error,
                ) from error
            _log.warning("node %r: the engine failed to close as well: %s", node.id, error)

    def _run_step(self, item: BoundStep, session: Any) -> None:
        step = item.step
        self._current = step.name
        self._progress(step.name)
        folder = self._made / step.name if step.kind is StepKind.OUTPUT else None
        if folder is not None:
            folder.mkdir()
        context = StepContext(
            flow=self.flow,
            node=self.bound.node,
            step=step,
            params=item.params,
            session=session,
            scratch_dir=self._scratch,
            folder=folder,
            work_dir=self._work / step.name,
            progress=self._progress,
            reports=self._reports,
            history=self.history,
        )
        started = time.monotonic()
        values = [self._value(name) for name in step.dependencies]
        place = f"{step.position}: node {self.bound.node.id!r}, step {step.name!r}"
        try:
            value = self.bound.engine.run_step(session, item.function, context, values)
        except (Exception, SystemExit) as error:
            raise _failed(f"{place} (class {step.cls!r}) failed", error) from error
        if folder is not None and not any(folder.iterdir()):
            raise FlowError(
                f"{place} (class {step.cls!r}) wrote nothing; an output step writes its artifact "
                "to context.output_dir"
            )
        self._values[step.name] = value if folder is None else folder
        self._step_seconds[step.name] = round(time.monotonic() - started, 4)

    def _value(self, name: str) -> Any:
        id, dot, output = name.partition(".")
        return self.history.nodes[id].outputs[output] if dot else self._values[name]

    def _progress(self, text: str, done: float | None = None, total: float | None = None) -> None:
        label = f"{self._current}: {text}" if text != self._current != "" else text
        self.reporter.step_progress(self.bound.node, label, done, total)

    def _commit(self, seconds: float) -> tuple[Manifest, Path]:
        node = self.bound.node
        manifest = Manifest(
            flow=self.flow.name,
            node=node.id,
            run=self.run_name,
            attempt=self.number,
            key=self.key,
            components=dict(self.components),
            outputs={name: to_mapping(record_output(self._made / name)) for name in node.outputs},
            reports=self._reports,
            step_seconds=self._step_seconds,
            seconds=round(seconds, 4),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        manifest.write(self._made)
        relative = Path(ARTIFACTS, self.flow.name, node.id, f"{self.key[:12]}-{self.number:06d}")
        final = self.root / relative
        final.parent.mkdir(parents=True, exist_ok=True)
        self.ledger.plan_folder(self.number, relative.as_posix())
        with shielded():
            self.ledger.commit(self.number, lambda: os.rename(self._made, final))
        with suppress(OSError):
            _sync(final.parent)
        shutil.rmtree(self._work, ignore_errors=True)
        return manifest, final


def _failed(what: str, error: BaseException) -> FlowError:
    """An error with the place in front; other people's errors keep their type in the message."""
    if isinstance(error, SystemExit):
        return FlowError(f"{what}: it called sys.exit({error.code!r})")
    kind = "" if isinstance(error, WeimlError) else f"{type(error).__name__}: "
    return FlowError(f"{what}: {kind}{error}")


def _sync(folder: Path) -> None:
    """Force a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
