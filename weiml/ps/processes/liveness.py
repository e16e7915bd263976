"""What runs: processes of this machine, and the cluster's nodes. It knows no group."""

from __future__ import annotations

import os

import ray

__all__ = ["is_running", "nodes"]


def nodes() -> list[str]:
    """Return the ids of the nodes that are up."""
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def is_running(pid: int) -> bool:
    """Whether a process of this machine runs; one that ended but was not reaped does not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or its number is somebody else's now
        return False
    if not os.path.exists("/proc/self/stat"):
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False
