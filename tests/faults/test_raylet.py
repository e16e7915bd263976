"""A node that dies with all that ran on it: the stand-bys on the other one take over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.mark.timeout(600)
def test_a_raylet_that_dies_takes_primaries_with_it_and_nothing_is_lost(root: Path) -> None:
    # A cluster of its own, and so a process of its own.
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.two_nodes"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    came = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert came == {
        "primaries_were_there": [True, True],
        "processes": 4,
        "processes_there": 0,
        "failovers": 4,
        "lost_writes": 0,
        "equal": True,
    }
