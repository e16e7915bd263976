"""What benchmarks share: fair timing, one JSON line a case, a dated report with the machine.

Knows nothing of what is measured.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Case", "interleaved", "run"]

REPORTS = Path(__file__).resolve().parent.parent / "docs" / "reports"
SHOWN_VERSIONS = ("numba", "numpy", "pandas", "polars", "pyarrow", "ray", "tensorflow-cpu", "torch")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measured comparison of rates, where more is better."""

    case: str
    value: float
    unit: str
    peer: str
    peer_value: float
    goal: str
    """The bar, in words."""
    holds: bool
    """Whether this run met it."""
    quality: str
    """What was computed right beside being fast: AUC, equality, collisions."""
    regime: str
    """Table in cache or cold, uniform or Zipf keys, warm or first run."""
    n: int
    """Runs whose median this is."""

    def line(self, benchmark: str) -> dict[str, Any]:
        """Return the case as it is printed, numbers to four digits."""
        given = asdict(self)
        before = ("case", "value", "unit", "peer", "peer_value")
        line = {
            "benchmark": benchmark,
            **{key: given.pop(key) for key in before},
            "ratio": self.value / self.peer_value,
            **given,
        }
        return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in line.items()}


def interleaved(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each contestant after one warm-up.

    They take turns within a round, and every other round in reverse, so that a machine which slows
    down or speeds up meanwhile treats all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for contest in contestants.values():
        contest()
    for turn in range(rounds):
        order = list(contestants)
        for name in reversed(order) if turn % 2 else order:
            begin = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}


def run(name: str, cases: Callable[..., Iterable[Case]], **options: int | str) -> None:
    """Command line of one benchmark: print each case as it is done, and write the report.

    A quick run is for looking; it is written only when a folder is asked for. Each of `options`
    becomes an option ``--name`` with that default, which `cases` takes by its name after `quick`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="at most 50 s, on less data")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help=f"default {REPORTS.name}/")
    for option, default in options.items():
        shown = f"default {default:,}" if isinstance(default, int) else "a path"
        parser.add_argument(f"--{option}", type=type(default), default=default, help=shown)
    arguments = parser.parse_args()
    chosen = {option: getattr(arguments, option) for option in options}
    begin = time.perf_counter()
    lines = []
    for case in cases(arguments.quick, **chosen):
        lines.append(case.line(name))
        print(json.dumps(lines[-1], ensure_ascii=False), flush=True)
    folder = arguments.report or (None if arguments.quick else REPORTS)
    if folder is not None:
        report = {
            "benchmark": name,
            "date": datetime.date.today().isoformat(),
            "quick": arguments.quick,
            "seconds": round(time.perf_counter() - begin, 1),
            "commit": _commit(),
            "machine": _machine(),
            "versions": _versions(),
            "cases": lines,
        }
        print(f"wrote {_write(folder, report)}", file=sys.stderr)


def _write(folder: Path, report: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report['date']}-{report['benchmark']}.json"
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.rename(path)
    return path


def _commit() -> str | None:
    """Return the checkout's commit, with a + where files differ from it."""
    git = ["git", "-C", str(REPORTS.parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode != 0:
        return None
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [ln for ln in cpuinfo.read_text().splitlines() if ln.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model, "cores": cores, "memory_gib": round(memory, 1)}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
