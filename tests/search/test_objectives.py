from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from weiml.errors import ConfigError
from weiml.models import WideDeepConfig
from weiml.search import Bowl, TrainValidation

Data = tuple[Path, Path]


def refuse(step: int, metrics: Any) -> None:
    raise AssertionError("nothing is reported on the way")


def objective(data: Data, **options: Any) -> TrainValidation:
    return TrainValidation(train=data[0], validation=data[1], **options)


def test_bowl_reports_a_falling_curve() -> None:
    steps: list[tuple[int, float]] = []
    bowl = Bowl(centre=1.0, steps=2)
    assert bowl({"x": 3.0, "y": 1}, lambda s, m: steps.append((s, m["loss"]))) == {"loss": 4.0}
    assert steps == [(1, 5.0), (2, 4.5)]
    with pytest.raises(ConfigError, match="x = 'a'"):
        bowl({"x": "a"}, lambda s, m: None)


def test_trains_with_the_parameters_of_the_trial(data: Data) -> None:
    base = {"model": "lr", "epochs": 2, "batch_size": 100}
    metrics = objective(data, base=base)({"model.optimizer.alpha": 0.1}, refuse)
    assert metrics["auc"] > 0.8
    assert 0.3 < metrics["log_loss"] < 0.55
    assert metrics["examples"] == 1000
    slow = objective(data, base=base)({"model.optimizer.alpha": 1e-5}, refuse)
    assert slow["log_loss"] > metrics["log_loss"] + 0.05
    again = objective(data, base=base)({"model.optimizer.alpha": 0.1}, refuse)
    assert again == metrics


def test_less_data_is_the_most_recent(data: Data) -> None:
    base = {"model": "lr", "epochs": 1, "batch_size": 100}
    whole = objective(data, base=base)({}, refuse)
    half = objective(data, base=base, train_fraction=0.02)({}, refuse)
    assert half["log_loss"] > whole["log_loss"]
    assert sorted(path.name for path in data[0].parent.iterdir()) == ["train", "validation"]


def test_file_then_base_then_parameters(data: Data, tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text('model = "wide_deep"\ntransport = "ray"\nepochs = 9\nbatch_size = 64\n')
    made = objective(data, config=file, base={"epochs": 3, "model": {"dropout": 0.1}})
    file.unlink()
    config = made.train_config({"model.lr": 0.5, "model.hidden": (8, 4)})
    assert (config.batch_size, config.epochs) == (64, 3)
    assert config.model == WideDeepConfig(lr=0.5, dropout=0.1, hidden=(8, 4))
    tree = made.configuration({"model.hidden": (8, 4)})
    assert (tree["transport"], tree["model"]["hidden"]) == ("ray", [8, 4])
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_fraction": 0.0}, r"train_fraction must be in \(0, 1\], got 0"),
        ({"base": {"modell": "lr"}}, "did you mean 'model'"),
        ({"config": Path("nowhere.toml")}, r"nowhere\.toml does not exist"),
    ],
)
def test_refuses_before_any_trial(data: Data, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objective(data, **options)


def test_unknown_parameter_names_the_nearest(data: Data) -> None:
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        objective(data, base={"model": "wide_deep"}).train_config({"model.lrr": 0.5})


def test_paths_do_not_depend_on_the_folder(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data[0].parent)
    made = TrainValidation(train=Path("train"), validation=Path("validation"))
    assert (made.train, made.validation) == data


def test_objectives_differ_by_their_options_and_by_what_their_files_hold(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("same", "one"), ("b", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text(text)

    def identity(train: str, **options: Any) -> dict[str, Any]:
        folder = tmp_path / "a"
        return TrainValidation(train=tmp_path / train, validation=folder, **options).identity()

    assert identity("a") == identity("same")
    assert identity("a") != identity("b")
    assert identity("a") != identity("a", train_fraction=0.5)
