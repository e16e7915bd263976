"""The program that runs a plan, as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.plan import main
from weiml.models import Predictor


def test_a_plan_runs_and_its_second_run_takes_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "data.dataset=synthetic-criteo:rows=8000", "--set", "network.epochs=1"]
    command = ["--out", str(tmp_path / "out"), *small]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "before calibration" in told.out
    assert "network: epoch 1/1" in told.err
    assert main([*command, "--set", "calibration=platt", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    ran = [stage["name"] for stage in result["stages"] if not stage["cached"]]
    assert ran == ["calibration", "test"]
    assert result["test"]["after"]["ne"] < result["test"]["before"]["ne"]
    assert Predictor.load(result["model"]).calibration is not None


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.toml"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: plan {tmp_path / 'none.toml'} does not exist\n"
