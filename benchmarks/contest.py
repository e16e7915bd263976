"""Contestants in processes of their own, that take turns: seconds, CPU seconds and peak memory.

    python -m benchmarks.contest MODULE NAME [ARGUMENT …]

starts one: ``MODULE.CONTESTANTS[NAME](*arguments)`` returns a function that is run once for each
line on standard input and returns how many rows it read; a line of JSON answers each.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Contestant", "Result", "contest", "memory"]

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contestant:
    """Who takes part: a name within a module, and what it is given."""

    module: str
    name: str
    arguments: tuple[str, ...] = ()


@dataclass
class Result:
    """What was measured of one contestant, over its turns."""

    rows: int = 0
    """Read in one turn."""
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of all its threads."""
    peak: int = 0
    """The most bytes that were resident at a time, of all turns; file-backed ones too."""

    @property
    def rate(self) -> float:
        """Rows a second, by the median turn."""
        return self.rows / statistics.median(self.seconds)

    @property
    def rate_of_cpu(self) -> float:
        """Rows a second of the processor, by the median turn."""
        return self.rows / statistics.median(self.cpu)

    def __str__(self) -> str:
        cpu = statistics.median(self.cpu) * 1e6 / self.rows
        return (
            f"{self.rate:,.0f}/s ({cpu:.2f} CPU s per million rows, {self.peak / 2**20:,.0f} MiB)"
        )


def contest(entries: Mapping[str, Contestant], rounds: int) -> dict[str, Result]:
    """Let contestants take turns, each after a warm-up, every other round in reverse.

    Raises:
        RuntimeError: one of them fails; its standard error says why.
    """
    results = {name: Result() for name in entries}
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(_started(e)) for name, e in entries.items()}
        for process in started.values():
            _turn(process)
        for turn in range(rounds):
            order = list(entries)
            for name in reversed(order) if turn % 2 else order:
                answer = _turn(started[name])
                result = results[name]
                result.rows = answer["rows"]
                result.seconds.append(answer["seconds"])
                result.cpu.append(answer["cpu"])
                result.peak = max(result.peak, answer["peak"])
    return results


@contextlib.contextmanager
def _started(entry: Contestant) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.contest", entry.module, entry.name]
    with subprocess.Popen(
        [*command, *entry.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # which ends it


def _turn(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("go\n")
        process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{process.args!r} ended with exit code {process.wait()}")
    return dict(json.loads(answer))


def memory(field: str = "VmHWM") -> int:
    """Return one of the sizes in /proc/self/status in bytes; 0 where the system has none.

    VmHWM is the peak of all resident pages since `_forget_peak`; RssAnon those without a file.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main(arguments: Sequence[str]) -> None:
    """Be a contestant."""
    module, name, *given = arguments
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    turn = importlib.import_module(module).CONTESTANTS[name](*given)
    for _ in sys.stdin:
        _forget_peak()
        cpu, begin = time.process_time(), time.perf_counter()
        rows = turn()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        answer = {"rows": rows, "seconds": seconds, "cpu": cpu, "peak": memory()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
