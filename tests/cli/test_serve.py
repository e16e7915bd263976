"""``weiml serve``: a real endpoint in the background, asked through ``weiml predict``."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weiml.cli import app
from weiml.data import BatchDataset
from weiml.serving import ModelRegistry, background_status
from weiml.serving.app import check_port
from weiml.serving.processes import descendants, is_running
from weiml.train import TrainConfig, Trainer


def ask(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def model(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "lr"
    config = TrainConfig(model="lr", epochs=1, batch_size=200)
    Trainer(config).fit(BatchDataset.open(features / "train")).save(folder)
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.process
def test_detach_predict_and_stop(
    features: Path, model: Path, tmp_path: Path, free_port: int
) -> None:
    ModelRegistry(tmp_path / "registry").register("feed", model, alias="champion")
    folder = tmp_path / "endpoint"
    named = ("feed@champion", "--registry", tmp_path / "registry", "--view", features / "view")
    state = ask("serve", *named, "--port", free_port, "--detach", "--folder", folder)
    try:
        assert state["url"] == f"http://127.0.0.1:{free_port}"
        assert state["ready"]
        assert background_status(folder) == state
        items = [3, 5, 8]
        there = ask("predict", 7, *items, "--url", state["url"], "--timestamp", 900_000_000)
        local = ("--model", model, "--view", features / "view", "--timestamp", 900_000_000)
        here = ask("predict", 7, *items, *local)
        ids = [[row["item_id"] for row in said["items"]] for said in (there, here)]
        assert ids[0] == ids[1]
        scores = [[row["score"] for row in said["items"]] for said in (there, here)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        again = CliRunner().invoke(
            app, ["serve", f"feed={model}", "--detach", "--folder", str(folder)]
        )
        assert again.exit_code == 2
        assert f"runs already from {folder} (pid {state['pid']}" in again.stderr
    finally:
        processes = [state["pid"], *descendants(state["pid"])]
        stopped = ask("serve", "--stop", "--folder", folder)
    assert stopped["stopped"] is True
    assert len(processes) > 3  # Ray, Serve's controller and proxy, the hub, a replica
    assert [pid for pid in processes if is_running(pid)] == []
    assert background_status(folder) is None
    check_port("127.0.0.1", free_port)  # it is free again
    assert ask("serve", "--stop", "--folder", folder)["stopped"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to serve"),
        (["feed"], "NAME=FOLDER or NAME@VERSION, got 'feed'"),
        (["feed@1"], "needs --registry"),
        (["feed=missing", "--detach"], "missing"),
        (["feed=x", "--stop"], "--stop goes with --folder only"),
        (["feed=x", "--set", "prot=1"], "did you mean 'port'"),
        (["feed=x", "--set", 'host="0.0.0.0"'], "loopback"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_starts(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments, "--folder", str(tmp_path / "endpoint")])
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "endpoint").exists()
