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
from weiml.models import Predictor, auc


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
    assert "epoch 1/1" in done.stderr
    evaluated = CliRunner().invoke(app, ["evaluate", str(tmp_path / "m"), str(features / "test")])
    assert any(line.startswith("auc ") for line in evaluated.stdout.splitlines())


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
