"""The image program as people run it: digits in a folder to a model and its accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.images import main
from weiml.data import BatchDataset
from weiml.models import CNN, Predictor


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of pictures whose digit is the row of their line."""
    folder = tmp_path_factory.mktemp("mnist")
    rng = np.random.default_rng(1)
    for name, count in (("train", 600), ("test", 100)):
        y = rng.integers(0, 10, count)
        X = rng.integers(0, 60, (count, 28, 28), np.uint8)
        X[np.arange(count), 4 + 2 * y, 4:24] = 255
        np.savez(folder / f"mnist_{name}.npz", X=X, y=y)
    return folder


QUICK = ["--set", "epochs=2", "--set", "model.widths=[4,8]", "--set", "batch_size=16"]
QUICK += ["--set", "model.shift=0", "--set", "model.precision=float32", "--set", "model.lr=0.02"]


def test_digits_are_learned(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--mnist", str(digits), "--out", str(out), "--json", *QUICK]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["examples"] == {"train": 600, "test": 100}
    assert told["workers"] == 1
    assert told["test"]["accuracy"] > 0.5
    predictor = Predictor.load(told["model"])
    assert isinstance(predictor.model, CNN)
    assert predictor.version == told["version"]
    assert predictor.score_tasks(BatchDataset.open(out / "test").read()).shape == (100, 10)


def test_what_is_wrong_is_told_and_nothing_is_left(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--mnist", str(tmp_path), "--out", str(out)]) == 2
    assert "mnist_train.npz" in capsys.readouterr().err
    command = ["--mnist", str(digits), "--out", str(out), *QUICK]
    assert main([*command, "--set", "model.lr=1e30"]) == 2
    assert "training diverged" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["--mnist", str(digits), "--out", str(digits)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.process
def test_two_workers_on_ray(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["--mnist", str(digits), "--out", str(out), "--workers", "2", "--json", *QUICK]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["workers"] == 2
    assert told["test"]["accuracy"] > 0.5
