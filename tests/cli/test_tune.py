"""``weiml tune``: a small real search, gone on with by a second call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weiml.cli import app
from weiml.config import from_mapping
from weiml.train import TrainConfig

PLAN = """
objective = "train.validation"

[search]
metric = "log_loss"
trials = 2

[options.base]
model = "lr"
epochs = 1
batch_size = 200

[space."model.optimizer.alpha"]
type = "float"
low = 0.01
high = 1.0
log = true
default = 0.1
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


def tune(features: Path, output: Path, plan: Path, *more: str) -> Any:
    arguments = ["tune", str(features), str(output), "--plan", str(plan), *more, "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_search_ends_with_a_configuration_and_goes_on(
    features: Path, tmp_path: Path, plan: Path, ray_session: None
) -> None:
    output = tmp_path / "search"
    first = tune(features, output, plan)
    assert first["new_trials"] == 2
    values = [trial["value"] for trial in first["trials"]]
    assert first["best_value"] == min(values)
    best = from_mapping(TrainConfig, first["config"])
    assert best.model_config.name == "lr"
    saved = json.loads((output / "best.json").read_text())
    assert saved["params"] == first["best_params"]
    second = tune(features, output, plan, "--trials", "3")
    assert second["new_trials"] == 1
    assert [trial["value"] for trial in second["trials"][:2]] == values


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.toml", None, "absent.toml does not exist"),
        ("bad.toml", "objective = ", "bad.toml is not valid TOML"),
        ("odd.toml", PLAN.replace("model.optimizer.alpha", "model.optimizer.alfa"), "alfa"),
        ("none.toml", PLAN.replace("train.validation", "train.validaton"), "train.validation"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(
    features: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    arguments = ["tune", str(features), str(tmp_path / "out"), "--plan", str(tmp_path / name)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()
