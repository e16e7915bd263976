"""From batches to metrics and a ranking through the command line, on generated data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from weiml.cli import app
from weiml.data import BatchDataset, FeatureView
from weiml.models import MODELS, Predictor, auc, load_scorer
from weiml.models.trees import GBDT
from weiml.train import TrainConfig, read_recipe

TASKS = ('model.tasks=["click", "buy"]',)
SEQUENCE = ('model.sequences=["seen"]', 'model.targets=["item_id"]')
NEEDED = {
    **dict.fromkeys(("esmm", "mmoe", "ple", "shared_bottom"), TASKS),
    **dict.fromkeys(("bst", "dien", "din"), SEQUENCE),
    "two_tower": ('model.user_slots=["user_id"]', 'model.item_slots=["item_id"]'),
}
"""Knobs without a default that serves."""


def ask(*arguments: object) -> Any:
    """Run a command with --json and return what it printed."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: object) -> str:
    """Run a command that must fail in weiml's way, and return what it said."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    return done.stderr


@pytest.fixture(scope="module")
def trained(features: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("models") / "lr"
    settings = ("--set", "model=lr", "--set", "epochs=3", "--set", "batch_size=100")
    return folder, ask("train", features, folder, *settings)


def test_train_writes_a_model_and_its_history(trained: tuple[Path, Any]) -> None:
    folder, said = trained
    assert said["model"] == "lr"
    assert said["folder"] == str(folder)
    assert said["version"] == Predictor.load(folder).version
    assert said["best_epoch"] in [entry["epoch"] for entry in said["history"]]
    assert all(0 < entry["train_loss"] < 1 for entry in said["history"])


def test_evaluate_says_what_the_library_computes(trained: tuple[Path, Any], features: Path) -> None:
    folder, said = trained
    evaluated = ask("evaluate", folder, features / "test")
    assert evaluated["version"] == said["version"]
    assert evaluated["examples"] == 500
    batch = BatchDataset.open(features / "test").read()
    scores = Predictor.load(folder).score(batch)
    assert evaluated["metrics"]["auc"] == pytest.approx(auc(batch.labels[:, 0], scores), abs=1e-9)
    assert evaluated["metrics"]["auc"] > 0.55


def test_predict_ranks_as_the_predictor_scores(trained: tuple[Path, Any], features: Path) -> None:
    folder, said = trained
    view, user, items, time = features / "view", 7, [3, 5, 8, 13], 900_000_000
    local = ("--model", folder, "--view", view, "--timestamp", time)
    ranked = ask("predict", user, *items, *local)
    assert ranked["version"] == said["version"]
    predictor = Predictor.load(folder)
    rows = FeatureView.load(view).rows(user, items, time)
    scores = predictor.score(predictor.encoder.encode(rows, labels=False))
    order = np.argsort(-scores, kind="stable")
    assert [row["item_id"] for row in ranked["items"]] == [items[i] for i in order]
    got = [row["score"] for row in ranked["items"]]
    np.testing.assert_allclose(got, scores[order], atol=1e-6)
    assert all(row["title"] for row in ranked["items"])


def test_predict_ranks_all_items_by_default(trained: tuple[Path, Any], features: Path) -> None:
    folder, _ = trained
    ranked = ask("predict", 7, "--model", folder, "--view", features / "view", "--top", 5)
    scores = [row["score"] for row in ranked["items"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


def test_a_file_and_overrides_make_the_configuration(features: Path, tmp_path: Path) -> None:
    file = tmp_path / "lr.toml"
    file.write_text('model = "lr"\nepochs = 9\nbatch_size = 500\n')
    said = ask("train", features, tmp_path / "m", "--config", file, "--set", "epochs=1")
    assert len(said["history"]) == 1


def test_for_people_there_are_tables(features: Path, tmp_path: Path) -> None:
    arguments = ["train", str(features), str(tmp_path / "m"), "--set", "epochs=1"]
    done = CliRunner().invoke(app, arguments)
    assert done.stdout.splitlines()[0].startswith("EPOCH")
    assert "saved to" in done.stdout.splitlines()[-1]
    assert "epoch 1/1, loss" in done.stderr
    evaluated = CliRunner().invoke(app, ["evaluate", str(tmp_path / "m"), str(features / "test")])
    assert any(" auc " in line and "±" in line for line in evaluated.stdout.splitlines())


@pytest.mark.process
def test_train_brings_up_ray_where_it_is_asked_for(
    features: Path, tmp_path: Path, ray_session: None
) -> None:
    settings = ("--set", "epochs=1", "--set", "batch_size=500")
    ray = ("--set", "transport=ray", "--set", "num_shards=2", "--set", "cpus_per_worker=0")
    there = ask("train", features, tmp_path / "ray", *settings, *ray)
    here = ask("train", features, tmp_path / "embedded", *settings)
    losses = [said["history"][0]["validation_log_loss"] for said in (there, here)]
    assert losses[0] == losses[1]


def test_a_misspelt_setting_is_answered_with_the_nearest(features: Path, tmp_path: Path) -> None:
    said = refused("train", features, tmp_path / "m", "--set", "epoch=3")
    assert said == "error: --set: unknown key 'epoch'; did you mean 'epochs'?\n"
    assert not (tmp_path / "m").exists()


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "train") in refused("train", tmp_path, tmp_path / "m")


def test_a_folder_without_a_model_is_named(features: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in refused("evaluate", tmp_path, features / "test")


def test_a_model_is_not_written_over(trained: tuple[Path, Any], features: Path) -> None:
    folder, said = trained
    assert "not empty" in refused("train", features, folder, "--set", "epochs=1")
    assert Predictor.load(folder).version == said["version"]


def test_a_run_goes_on_from_its_checkpoints_to_the_bit(features: Path, tmp_path: Path) -> None:
    settings = ("--set", "batch_size=500", "--set", "early_stopping_patience=0")
    kept = ("--checkpoints", tmp_path / "kept")
    short, whole, resumed = (tmp_path / name for name in ("short", "whole", "resumed"))
    ask("train", features, short, *settings, "--set", "epochs=1", *kept)
    arguments = ["train", features, resumed, *settings, "--set", "epochs=3", *kept, "--json"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert "resuming behind step 6 from" in done.stderr
    there = json.loads(done.stdout)
    here = ask("train", features, whole, *settings, "--set", "epochs=3")
    snapshots = [said["version"].split(".")[0] for said in (there, here)]
    assert snapshots[0] == snapshots[1]
    assert [e["train_loss"] for e in there["history"]] == [e["train_loss"] for e in here["history"]]


def test_it_says_that_it_stops_early_and_why_and_one_rate(features: Path, tmp_path: Path) -> None:
    settings = ("model.name=lr", "model.optimizer.alpha=0.5", "epochs=30", "batch_size=100")
    arguments = ["train", str(features), str(tmp_path / "m")]
    for knob in settings:
        arguments += ["--set", knob]
    done = CliRunner().invoke(app, arguments)
    assert "stopped early: validation log_loss was no better than in epoch" in done.stderr
    assert "early_stopping_patience = 1" in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch 1/30")]
    assert len(lines) == 1
    rate = lines[0].rsplit(", ", 1)[1].removesuffix(" examples/s")
    assert done.stdout.splitlines()[1].split()[4] == rate.replace(",", "")


def test_a_schedule_and_a_trace_show(features: Path, tmp_path: Path) -> None:
    knobs = ("model.name=dnn", "model.hidden=[4]", "lr_schedule.name=cosine", "epochs=1")
    arguments = ["train", str(features), str(tmp_path / "m"), "--trace", str(tmp_path / "t.json")]
    for knob in (*knobs, "threads=1", "batch_size=500"):
        arguments += ["--set", knob]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert "learning rate of the dense part: cosine (warmup_steps = 0, final = 0.0)" in done.stderr
    stages = {
        event["name"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    }
    assert {"pull", "push"} <= stages


def test_divergence_has_an_exit_code_of_its_own(features: Path, tmp_path: Path) -> None:
    knobs = ("model.name=dnn", "model.hidden=[4]", "model.optimizer=sgd", "model.lr=1e30")
    arguments = ["train", str(features), str(tmp_path / "m"), "--set", "threads=1"]
    for knob in knobs:
        arguments += ["--set", knob]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 3, done.output
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: training diverged at")
    assert "--checkpoints" in said
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"lr"}))
def test_a_model_is_chosen_by_its_name_on_top_of_a_file_of_another(name: str) -> None:
    tree = {"model": {"name": "lr", "optimizer": {"alpha": 0.1}}}
    overrides = [f"model.name={name}", *NEEDED.get(name, ())]
    recipe = read_recipe(tree, overrides=overrides)
    assert isinstance(recipe, TrainConfig)
    assert recipe.model_config.name == name


def test_trees_train_from_a_file_and_are_evaluated_and_ranked_by(
    features: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lightgbm")
    file = tmp_path / "trees.toml"
    file.write_text('[model]\nname = "gbdt"\nrounds = 6\nnum_leaves = 4\ncheckpoint_rounds = 3\n')
    kept = ("--checkpoints", tmp_path / "kept")
    said = ask("train", features, tmp_path / "m", "--config", file, *kept)
    assert said["model"] == "gbdt"
    assert len(said["history"]) == 6
    more = ["train", features, tmp_path / "m2", "--config", file, *kept, "--set", "model.rounds=9"]
    done = CliRunner().invoke(app, list(map(str, more)))
    assert "resuming behind round 6" in done.stderr
    assert done.stdout.splitlines()[0].split()[0] == "ROUND"
    evaluated = ask("evaluate", tmp_path / "m", features / "test")
    batch = BatchDataset.open(features / "test").read()
    scores = GBDT.load(tmp_path / "m").score(batch)
    assert evaluated["metrics"]["auc"] == pytest.approx(auc(batch.labels[:, 0], scores), abs=1e-9)
    ranked = ask("predict", 7, 3, 5, "--model", tmp_path / "m", "--view", features / "view")
    assert ranked["version"] == evaluated["version"] == said["version"]


def test_a_solver_trains_from_a_table(features: Path, tmp_path: Path) -> None:
    knobs = ("--set", "solver.l2=5.0", "--set", "solver.stop.max_iterations=8")
    said = ask("train", features, tmp_path / "m", *knobs)
    objectives = [entry["objective"] for entry in said["history"]]
    assert objectives == sorted(objectives, reverse=True)
    validation = BatchDataset.open(features / "validation").read()
    expected = auc(validation.labels[:, 0], load_scorer(tmp_path / "m").score(validation))
    assert said["history"][-1]["validation_auc"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("model=gbdt", "epochs=3"), "[model], got 'epochs' beside it; write model.epochs"),
        (("model=gbdt", "model.round=3"), "did you mean 'rounds'"),
        (("solver.l2=1", "batch_size=3"), "[solver], got 'batch_size'"),
        (("solver=3",), "solver must be a table"),
    ],
)
def test_what_does_not_go_with_trees_and_solvers_is_named(
    features: Path, tmp_path: Path, settings: tuple[str, ...], said: str
) -> None:
    arguments = [part for knob in settings for part in ("--set", knob)]
    assert said in refused("train", features, tmp_path / "m", *arguments)


def test_trees_have_no_trace(features: Path, tmp_path: Path) -> None:
    arguments = ("--set", "model=gbdt", "--trace", tmp_path / "t.json")
    assert "no steps to trace" in refused("train", features, tmp_path / "m", *arguments)
