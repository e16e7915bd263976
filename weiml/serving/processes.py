"""Processes by their numbers: whether they run, whom they started, and waiting for their end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["descendants", "is_running", "started_at", "wait_gone"]

_PROC = Path("/proc")
_POLL_S = 0.05


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended but was not waited for does not."""
    fields = _stat(pid)
    if fields is not None:
        return fields[0] != "Z"
    if _PROC.joinpath("self", "stat").exists():
        return False
    try:  # no /proc on this system
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def started_at(pid: int) -> str:
    """Return when a process started, in the system's own unit: with the pid it is unique."""
    fields = _stat(pid)
    return "" if fields is None else fields[19]


def descendants(pid: int) -> list[int]:
    """Return the running processes that `pid` started, directly or not; none without /proc."""
    parents: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*") if _PROC.exists() else ():
        fields = _stat(int(entry.name))
        if fields is not None:
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for parent in found:  # grows while it is walked: breadth first
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def wait_gone(pids: Iterable[int], timeout_s: float) -> list[int]:
    """Wait until processes have ended; returns those that still run after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    left = [pid for pid in pids if is_running(pid)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [pid for pid in left if is_running(pid)]
    return left


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (the name before may hold spaces)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
