"""An endpoint in the background: what cannot start leaves nothing; tests/cli starts a whole one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from weiml.config import to_mapping
from weiml.errors import ConfigError
from weiml.serving import background_status, start_background, stop_background
from weiml.serving.engine import free_port
from weiml.serving.processes import descendants, wait_gone

pytestmark = pytest.mark.process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "processes"), [(signal.SIGTERM, 3), (signal.SIGINT, 5), (signal.SIGTERM, 9)]
)
def test_interrupted_while_starting_leaves_nothing(
    number: signal.Signals, processes: int, feed: Any, tmp_path: Path
) -> None:
    """In the middle of the start-up: Ray is coming up, or it is there and Serve is coming up."""
    config = feed.config(models={"lr": feed.models["lr"]}, port=free_port())
    (tmp_path / "config.json").write_text(json.dumps(to_mapping(config)))
    code = "from weiml.serving.background import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "config.json", tmp_path / "endpoint.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 120
    while len(descendants(process.pid)) < processes:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = descendants(process.pid)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    assert wait_gone(started, 20.0) == []
    assert not (tmp_path / "endpoint.json").exists()


def test_what_cannot_start_says_why(feed: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="models.lr = '/nowhere' is not a folder"):
        start_background(feed.config(models={"lr": "/nowhere"}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_state_is_no_endpoint(tmp_path: Path) -> None:
    state = {"pid": os.getpid(), "url": "http://127.0.0.1:1", "started_at": "long ago"}
    (tmp_path / "endpoint.json").write_text(json.dumps(state))
    assert background_status(tmp_path) is None
    assert not stop_background(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "endpoint.json").write_text("{")
    assert background_status(tmp_path) is None
