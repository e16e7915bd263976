"""An endpoint in the background: starts, answers, ends, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from weiml.config import to_mapping
from weiml.errors import ClusterError, ConfigError
from weiml.serving import (
    Client,
    background_status,
    start_background,
    stop_background,
)
from weiml.serving.engine import free_port
from weiml.serving.processes import descendants, is_running, wait_gone

pytestmark = pytest.mark.process


def test_start_ask_stop(feed: Any, tmp_path: Path) -> None:
    config = feed.config(models={"lr": feed.models["lr"]}, port=free_port())
    state = start_background(config, tmp_path)
    processes = [state["pid"], *descendants(state["pid"])]
    try:
        assert len(processes) > 3  # Ray, Serve's controller and proxy, the hub, a replica
        assert state["url"] == config.url
        assert state["ready"]
        assert background_status(tmp_path) == state
        with Client(state["url"]) as client:
            assert client.rank(7, [1, 2, 3], top_k=2).outputs["score"].shape == (2,)
        with pytest.raises(ClusterError, match=f"runs already from .* \\(pid {state['pid']}"):
            start_background(config, tmp_path)
        with pytest.raises(ClusterError, match=f"port {config.port} on 127.0.0.1 is in use"):
            start_background(config, tmp_path / "other")
    finally:
        processes = [state["pid"], *descendants(state["pid"])]
        assert stop_background(tmp_path)
    assert [pid for pid in processes if is_running(pid)] == []
    assert background_status(tmp_path) is None
    assert not stop_background(tmp_path)
    with socket.socket() as probe:  # the port is free again
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", config.port))


def test_interrupted_while_starting_leaves_nothing(feed: Any, tmp_path: Path) -> None:
    """SIGTERM in the middle of the start-up: processes that it had begun are gone too."""
    config = feed.config(models={"lr": feed.models["lr"]}, port=free_port())
    (tmp_path / "config.json").write_text(json.dumps(to_mapping(config)))
    code = "from weiml.serving.background import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "config.json", tmp_path / "endpoint.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 60
    while len(descendants(process.pid)) < 4:  # Ray is coming up
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = descendants(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=90)
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
