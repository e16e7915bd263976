"""Steps and programs that the tests of flows share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from weiml.flow import Flow, FlowResult, Node, Reporter, StepContext, run_flow, step
from weiml.flow.result import NodeResult


@step("test.number")
def number(context: StepContext, *, value: int = 1) -> int:
    return value


@step("test.add")
def add(context: StepContext, *values: int, extra: int = 0) -> int:
    total = sum(values) + extra
    context.report("total", total)
    return total


@step("test.write")
def write(context: StepContext, value: object, *, name: str = "value.txt") -> None:
    (context.output_dir / name).write_text(str(value))


@step("test.read")
def read(context: StepContext, folder: Path, *, name: str = "value.txt") -> int:
    return int((folder / name).read_text())


@step("test.fail")
def fail(context: StepContext, *, message: str = "no luck") -> None:
    raise RuntimeError(message)


class Recorder(Reporter):
    """Remembers which nodes ran, and why."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.finished: list[str] = []
        self.reasons: dict[str, str] = {}
        self.texts: list[str] = []

    def node_started(self, node: Node, reason: str) -> None:
        self.ran.append(node.id)
        self.reasons[node.id] = reason

    def step_progress(
        self, node: Node, text: str, done: float | None = None, total: float | None = None
    ) -> None:
        self.texts.append(text)

    def node_finished(self, node: Node, result: NodeResult) -> None:
        self.finished.append(node.id)


Run = Callable[..., tuple[FlowResult, Recorder]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a flow in a folder of the test's own."""

    def go(flow: Flow, **kwargs: object) -> tuple[FlowResult, Recorder]:
        recorder = Recorder()
        result = run_flow(flow, tmp_path / "runs", progress=recorder, **kwargs)  # type: ignore[arg-type]
        return result, recorder

    return go


class Program:
    """A Python program in a folder of its own, run as another process."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._root = root
        self._started: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(self._root), str(self.folder)])
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *argv: str) -> tuple[int, str, str]:
        process = self.start(*argv)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def program(tmp_path: Path, root: Path) -> Iterator[Program]:
    made = Program(tmp_path, root)
    yield made
    made.close()


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout_s} s"
        time.sleep(0.02)


@pytest.fixture
def until() -> Callable[[Callable[[], bool], str], None]:
    return wait_for
