"""Processes by their numbers, tested on real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from weiml.serving.processes import descendants, is_running, started_at, wait_gone

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"


def test_a_tree_of_processes() -> None:
    parent = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not descendants(parent.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (child,) = descendants(parent.pid)
    assert is_running(parent.pid)
    assert is_running(child)
    assert {parent.pid, child} <= set(descendants(os.getpid()))
    assert started_at(parent.pid) != ""
    assert wait_gone([parent.pid, child], 0.0) == [parent.pid, child]
    parent.communicate(b"\n")
    assert wait_gone([parent.pid, child], 30.0) == []
    assert not is_running(parent.pid)
    assert started_at(parent.pid) == ""


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    assert wait_gone([process.pid], 30.0) == []
    process.wait()
