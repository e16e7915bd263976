"""A Ray head as people start one, to submit jobs to."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

START_S = 240.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Head:
    """A Ray head of its own, with dashboard, under token authentication."""

    dashboard: str
    metrics: str
    environment: dict[str, str]

    def get(self, path: str) -> Any:
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"{self.dashboard}{path}", headers=token)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def submit(self, name: str, program: list[str]) -> list[str]:
        """Return the command that submits a program of the working directory as a job."""
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "job", "submit", "--address", self.dashboard, "--submission-id", name]
        return [*command, "--working-dir", ".", "--", *program]

    def metric_names(self) -> set[str]:
        with urllib.request.urlopen(self.metrics, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {line.partition("{")[0] for line in lines if not line.startswith("#")}


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    # Unix sockets have short names: the folder must not lie deep.
    folder = Path(f"/tmp/weiml-head-{os.getpid()}")
    ports = [free_port() for _ in range(4)]
    tools = Path(sys.executable).parent
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_metrics_report_interval_ms": "500",
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    command = [str(tools / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={ports[0]}", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={ports[1]}"]
    command += [f"--dashboard-agent-listen-port={ports[2]}", f"--metrics-export-port={ports[3]}"]
    log = tmp_path_factory.mktemp("head") / "head.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, f"--temp-dir={folder}"],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        started = Head(
            f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[3]}/metrics", environment
        )
        deadline = time.monotonic() + START_S
        while not _takes_jobs(started):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield started
    finally:
        # The head itself would wait long for each of its processes.
        family = psutil.Process(process.pid).children(recursive=True)
        for member in [psutil.Process(process.pid), *family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _takes_jobs(head: Head) -> bool:
    try:
        head.get("/api/jobs/")
        return bool(head.metric_names())
    except OSError:
        return False
