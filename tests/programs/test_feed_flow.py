"""The feed program as people run it: as a Ray job, again from the cache, interrupted, failing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from weiml.flow import State, load_result

pytestmark = pytest.mark.process

DATA = "synthetic-feed:events=4000"
SMALL = ("--quick", "--dataset", DATA, "--set", "replay_events=400")
DEADLINE_S = 240.0


@pytest.mark.slow
def test_as_a_ray_job_and_again_from_the_cache(head: Any, root: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    program = ["python", "-m", "pipelines.feed", "--runs", str(runs), *SMALL]
    job = subprocess.Popen(
        head.submit("feed-test", program),
        cwd=root,
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    metrics: set[str] = set()
    deadline = time.monotonic() + DEADLINE_S
    while job.poll() is None and time.monotonic() < deadline:
        metrics |= {name for name in head.metric_names() if "weiml" in name}
        time.sleep(0.5)
    output = job.communicate(timeout=30)[0]
    assert job.returncode == 0, output

    # What a person sees in the dashboard comes by these calls.
    assert head.get("/api/jobs/feed-test")["status"] == "SUCCEEDED"
    logs = head.get("/api/jobs/feed-test/logs")["logs"]
    assert "flow feed: 9 nodes" in logs
    assert any(name.endswith("weiml_serving_requests_total") for name in metrics), metrics

    printed = logs.strip().splitlines()
    assert printed[-1].startswith("numbers: ")
    numbers = json.loads(Path(printed[-1].removeprefix("numbers: ")).read_text())
    check_numbers(numbers)
    check_printed(logs, numbers)

    again = subprocess.run(
        [sys.executable, *program[1:]],
        cwd=root,
        env={name: v for name, v in head.environment.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert again.returncode == 0, again.stderr
    result = load_result(runs)
    states = {id: node.state for id, node in result.nodes.items()}
    assert states.pop("report") is State.SUCCEEDED
    assert set(states.values()) == {State.CACHED}, {n.id: n.reason for n in result.nodes.values()}
    assert "connecting to Ray" not in again.stderr  # nothing was left to compute


def check_numbers(numbers: dict[str, Any]) -> None:
    evaluations = {e["name"]: e["metrics"] for e in numbers["evaluations"]}
    assert {"lr", "wide_deep", "tuned"} < set(evaluations)
    assert sum(e["kind"] == "baseline" for e in numbers["evaluations"]) >= 2
    for metrics in evaluations.values():
        assert 0.4 < metrics["auc"] < 1
        assert {"gauc", "log_loss", "calibration_ratio", "ndcg_at_10"} <= set(metrics)
    assert len(numbers["search"]["trials"]) == 2
    assert len(numbers["feeds"]) == 10
    for feed in numbers["feeds"]:
        scores = [item["score"] for item in feed["items"]]
        assert scores == sorted(scores, reverse=True)
    replay = numbers["replay"]
    assert replay["num_events"] == 400
    assert len(replay["versions"]) == len(set(map(str, replay["versions"]))) >= 2
    assert replay["first_chunk_max_difference"] <= 1e-5
    assert len(replay["replicas"]) == 2


def check_printed(logs: str, numbers: dict[str, Any]) -> None:
    first = numbers["feeds"][0]["items"][0]
    assert first["title"] in logs
    assert f"{first['score']:.4f}" in logs


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.feed", *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives it
    )


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=60)[1]


def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(root: Path, tmp_path: Path) -> None:
    program = start(root, "--runs", str(tmp_path), *SMALL)
    family: list[psutil.Process] = []
    seen = []
    assert program.stderr is not None
    for line in program.stderr:  # until the second node trains on shards and a worker
        seen.append(line)
        if "lr: model: lr: epoch" in line:
            family = psutil.Process(program.pid).children(recursive=True)
            os.killpg(program.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
            break
    assert any("ray" in " ".join(p.cmdline()) or "raylet" in p.name() for p in _alive(family)), seen
    _, rest = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 130, "".join(seen) + rest
    assert gone(family)
    result = load_result(tmp_path)
    assert result.nodes["features"].state is State.SUCCEEDED
    assert result.nodes["lr"].state is State.CANCELLED
    assert not list((tmp_path / "artifacts/feed").glob("lr/*"))


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running()]


def test_an_error_is_one_line_and_leaves_no_process(root: Path, tmp_path: Path) -> None:
    program = start(root, "--runs", str(tmp_path), "--dataset", "synthetic-feed:events=5")
    out, err = program.communicate(timeout=DEADLINE_S)
    assert program.returncode == 2
    assert not out
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "feed.xml" in last
    assert "Traceback" not in err
    mine = [p for p in psutil.process_iter(["pid"]) if _session(p.pid) == program.pid]
    assert gone(mine)


def _session(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return -1
