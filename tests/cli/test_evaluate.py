"""Metrics with their standard errors, a column a task, and the scores as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.cli.test_train import ask
from weiml.cli import app
from weiml.data import BatchDataset, write_batches
from weiml.models import auc, load_scorer


@pytest.fixture(scope="module")
def two_tasks(features: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data of two labels, the second of which is sometimes missing, and a model of them."""
    folder = tmp_path_factory.mktemp("tasks")
    for name in ("train", "validation"):
        batch = BatchDataset.open(features / name).read()
        second = np.where(batch.times % 5 == 0, np.nan, batch.items % 2).astype(np.float32)
        labels = np.column_stack([batch.labels[:, 0], second])
        both = type(batch)(**{**vars(batch), "labels": labels})
        write_batches([both], folder / name, label_names=("like", "odd"))
    knobs = ("model.name=shared_bottom", 'model.tasks=["like","odd"]', "model.hidden=[8]")
    settings = [part for knob in (*knobs, "epochs=1", "threads=1") for part in ("--set", knob)]
    ask("train", folder, folder / "model", *settings)
    return folder, folder / "model"


def test_each_task_has_its_metrics_and_its_columns(
    two_tasks: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, model = two_tasks
    said = ask("evaluate", model, folder / "validation", "--scores", tmp_path / "s.parquet")
    batch = BatchDataset.open(folder / "validation").read()
    scores = load_scorer(model).score_tasks(batch)
    known = ~np.isnan(batch.labels[:, 1])
    assert 0 < known.sum() < len(batch)
    expected = auc(batch.labels[known, 1], scores[known, 1])
    assert said["tasks"]["odd"]["auc"] == pytest.approx(expected, abs=1e-9)
    assert said["metrics"]["odd_auc"] == said["tasks"]["odd"]["auc"]
    table = pq.read_table(tmp_path / "s.parquet")
    np.testing.assert_array_equal(table["odd_score"], scores[:, 1])
    np.testing.assert_array_equal(table["score"], table["like_score"])
    np.testing.assert_array_equal(table["odd_label"], batch.labels[:, 1])


def test_for_people_there_is_a_column_a_task(two_tasks: tuple[Path, Path]) -> None:
    folder, model = two_tasks
    done = CliRunner().invoke(app, ["evaluate", str(model), str(folder / "validation")])
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["METRIC", "LIKE", "ODD"]
    (line,) = [line for line in lines if " auc " in line]
    assert line.count("±") == 2
    headings = [line.split("  ")[0] for line in lines[1:] if not line.startswith(" ")]
    assert headings == ["over all pairs", "within groups", "loss", "calibration", "data"]


def test_tasks_of_other_names_are_refused(two_tasks: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = two_tasks
    settings: list[Any] = ["--set", "model.name=mmoe", "--set", 'model.tasks=["like","od"]']
    arguments = ["train", folder, tmp_path / "m", *settings]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2
    assert "tasks ['like', 'od']" in done.stderr
    assert "labels ['like', 'odd']" in done.stderr
    assert "did you mean 'odd'" in done.stderr
