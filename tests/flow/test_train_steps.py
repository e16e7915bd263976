"""Training steps in a real flow: models, evaluations and selections as artifacts."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.flow.conftest import Run
from tests.models.conftest import make_batch
from weiml.config import to_mapping
from weiml.data import write_batches
from weiml.errors import FlowError
from weiml.flow import Flow, FlowBuilder, StepContext, step
from weiml.models import ModelFolder, Predictor, auc
from weiml.models.trees import GBDT
from weiml.ps import list_groups
from weiml.train import TrainConfig
from weiml.train.telling import TellingCallback


@step("test.batches")
def batches(context: StepContext, *, examples: int = 600, seed: int = 1) -> None:
    write_batches([make_batch(examples, seed)], context.output_dir)


def with_data(flow: FlowBuilder) -> None:
    node = flow.node("data")
    node.output("train", "test.batches", examples=2000)
    node.output("validation", "test.batches", seed=2)
    node.output("test", "test.batches", seed=3)


SMALL = ("epochs=2", "batch_size=128")
MODELS = {"lr": (), "wide_deep": ("model.hidden=[16]", "model.embedding_dim=4")}


def training_flow(*, engine: str = "python", transport: str = "embedded") -> Flow:
    flow = FlowBuilder("train", steps=("weiml.flow.train_steps",), seed=3)
    with_data(flow)
    for model, knobs in MODELS.items():
        overrides = (*SMALL, f"model={model}", *knobs, f"transport={transport}")
        overrides = (*overrides, "cpus_per_worker=0.5", "threads=1")
        node = flow.node(model, engine=engine, preid="data")
        node.output("model", "train.fit", ("data.train", "data.validation"), overrides=overrides)
    node = flow.node("evaluation", preid=("data", "lr", "wide_deep"))
    node.output("lr", "train.evaluate", ("lr.model", "data.test"))
    node.output("wide_deep", "train.evaluate", ("wide_deep.model", "data.test"))
    node.output(
        "baselines",
        "train.baselines",
        ("data.train", "data.test"),
        user_column="age",
        item_column="price",
        item_rate_column="price",
    )
    node.output(
        "best", "train.select", ("data.validation", "lr.model", "wide_deep.model"), metric="auc"
    )
    return flow.build()


def read(file: Path) -> dict:
    value: dict = json.loads(file.read_text())
    return value


def test_models_are_trained_evaluated_and_selected(run: Run) -> None:
    result, recorder = run(training_flow())
    told = read(result.artifact("evaluation.lr") / "metrics.json")
    table = pq.read_table(result.artifact("evaluation.lr") / "scores.parquet")
    assert table.column_names == ["score", "label", "group", "item", "time"]
    label, score = (table[name].to_numpy() for name in ("label", "score"))
    assert told["metrics"]["examples"] == len(table) == 600
    # The examples of the small sets carry weights, which the table leaves out.
    assert told["metrics"]["auc"] == pytest.approx(auc(label, score), abs=0.05)
    assert result.reports["lr"]["model"] == "lr"
    history = read(result.artifact("wide_deep.model") / "history.json")
    assert len(history["history"]) == 2
    assert history["curve"]
    baselines = read(result.artifact("evaluation.baselines") / "metrics.json")["metrics"]
    assert set(baselines) == {
        "item_popularity",
        "user_item_mean",
        "item_popularity_progressive",
        "user_item_mean_progressive",
    }
    scores = pq.read_table(result.artifact("evaluation.baselines") / "scores.parquet")
    assert set(baselines) < set(scores.column_names)
    assert told["metrics"]["auc"] > baselines["item_popularity"]["auc"]
    best = result.artifact("evaluation.best")
    selection = read(best / "selection.json")
    values = {c["version"]: c["metrics"]["auc"] for c in selection["candidates"]}
    assert max(values, key=lambda version: values[version]) == selection["selected"]
    assert Predictor.load(best).version == selection["selected"]
    assert any("wide_deep: epoch 2/2" in text for text in recorder.texts)


@pytest.mark.usefixtures("ray_session")
def test_the_engine_ps_gives_the_same_models(run: Run) -> None:
    remote, _ = run(training_flow(engine="ps", transport="ray"))
    local, _ = run(training_flow())
    batch = make_batch(100, 4)
    for model in ("lr.model", "wide_deep.model"):
        np.testing.assert_array_equal(
            Predictor.load(remote.artifact(model)).score(batch),
            Predictor.load(local.artifact(model)).score(batch),
        )
    assert not list_groups()


@step("test.tuned")
def tuned(context: StepContext) -> None:
    found = TrainConfig(epochs=1, batch_size=200)
    (context.output_dir / "best.json").write_text(json.dumps({"config": to_mapping(found)}))


def test_the_winner_of_a_search_is_trained(run: Run) -> None:
    flow = FlowBuilder("tuned", steps=("weiml.flow.train_steps",))
    with_data(flow)
    flow.node("search").output("result", "test.tuned")
    node = flow.node("fit", preid="data,search")
    inputs = ("data.train", "data.validation", "search.result")
    node.output(
        "model", "train.fit", inputs, overrides=("model.name=lr", "model.optimizer.alpha=0.2")
    )
    result, _ = run(flow.build())
    config = ModelFolder.open(result.artifact("fit.model")).manifest["about"]["config"]
    assert config["batch_size"] == 200
    assert config["model"]["optimizer"]["alpha"] == 0.2
    broken = FlowBuilder("broken", steps=("weiml.flow.train_steps",))
    with_data(broken)
    inputs = ("data.train", "data.validation", "data.test")
    broken.node("fit", preid="data").output("model", "train.fit", inputs)
    with pytest.raises(FlowError, match=r"best\.json does not hold the winner of a search"):
        run(broken.build())


def test_mistakes_name_node_and_step(run: Run) -> None:
    flow = FlowBuilder("f", steps=("weiml.flow.train_steps",))
    with_data(flow)
    flow.node("fit", preid="data").output("m", "train.fit", "data.train", overrides=("epochz=1",))
    with pytest.raises(FlowError, match=r"'fit'.*'m'.*unknown key 'epochz'; did you mean 'epochs'"):
        run(flow.build())
    flow = FlowBuilder("g", steps=("weiml.flow.train_steps",))
    with_data(flow)
    flow.node("select", preid="data").output("m", "train.select", "data.train")
    with pytest.raises(FlowError, match="at least one model"):
        run(flow.build())


@pytest.mark.usefixtures("ray_session")
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs the extra tensorflow"
)
def test_keras_trains_on_the_same_batches(run: Run) -> None:
    flow = FlowBuilder("keras", steps=("weiml.flow.train_steps",), seed=3)
    with_data(flow)
    settings = (*SMALL, "model=keras_wide_deep", "model.hidden=[16]", "model.lr=0.02")
    node = flow.node("keras", engine="tensorflow", preid="data")
    node.output("model", "train.fit", ("data.train", "data.validation"), overrides=settings)
    node.output("evaluation", "train.evaluate", ("model", "data.test"))
    result, _ = run(flow.build())
    told = read(result.artifact("keras.evaluation") / "metrics.json")
    assert told["model"] == "keras_wide_deep"
    assert told["metrics"]["auc"] > 0.6
    assert result.reports["keras"]["best_epoch"]
    assert "tensorflow" not in sys.modules


PLAN = """
[data]
files = "unused"
[[features.features]]
name = "unused"
type = "categorical"
[network]
epochs = 1
batch_size = 128
[calibration]
name = "platt"
"""


def test_a_plan_runs_on_what_the_node_depends_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    flow = FlowBuilder("plan", steps=("weiml.flow.train_steps",), seed=3)
    with_data(flow)
    node = flow.node("plan", preid="data")
    node.output(
        "model",
        "train.plan",
        ("data.train", "data.validation", "data.test"),
        plan=tmp_path / "plan.toml",
        overrides=("network.seed=4",),
        stages=str(tmp_path / "stages"),
    )
    result, _ = run(flow.build())
    predictor = Predictor.load(result.artifact("plan.model"))
    assert predictor.calibration is not None
    told = read(result.artifact("plan.model") / "plan.json")
    assert [stage["name"] for stage in told["stages"]] == ["network", "calibration", "test"]
    reports = result.reports["plan"]
    assert reports["version"] == predictor.version
    assert reports["after"]["auc"] == told["test"]["after"]["auc"]
    assert read(tmp_path / "stages" / "result.json")["model"] == told["model"]


def fitting(*overrides: str, name: str = "resumed") -> Flow:
    flow = FlowBuilder(name, steps=("weiml.flow.train_steps",), seed=3)
    with_data(flow)
    node = flow.node("fit", preid="data")
    node.output("model", "train.fit", ("data.train", "data.validation"), overrides=overrides)
    evaluation = flow.node("evaluation", preid=("data", "fit"))
    evaluation.output("scores", "train.evaluate", ("fit.model", "data.test"))
    evaluation.output("best", "train.select", ("data.validation", "fit.model"))
    return flow.build()


def test_what_was_interrupted_goes_on_from_its_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs: list[int] = []
    told = TellingCallback.on_epoch

    def breaking(self: TellingCallback, entry: dict[str, Any]) -> None:
        epochs.append(entry["epoch"])
        if epochs == [1, 2]:
            raise OSError("the machine goes down")
        told(self, entry)

    monkeypatch.setattr(TellingCallback, "on_epoch", breaking)
    flow = fitting("epochs=3", "batch_size=128", "early_stopping_patience=0")
    with pytest.raises(FlowError, match="the machine goes down"):
        run(flow)
    with caplog.at_level("INFO"):
        result, _ = run(flow)
    assert epochs == [1, 2, 2, 3]
    assert "resuming behind step 16 from" in caplog.text
    folder = result.artifact("fit.model")
    history = json.loads((folder / "history.json").read_text())["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert not list(folder.parents[4].glob("work/**/step-*"))


def test_trees_are_fitted_evaluated_and_selected_like_others(run: Run) -> None:
    pytest.importorskip("lightgbm")
    result, _ = run(fitting("model=gbdt", "model.rounds=5", "model.num_leaves=4", name="trees"))
    reports = result.nodes["fit"].reports
    assert (reports["model"], reports["best_round"]) == ("gbdt", reports["best_round"])
    scores = pq.read_table(result.artifact("evaluation.scores") / "scores.parquet")
    model = GBDT.load(result.artifact("evaluation.best"))
    np.testing.assert_array_equal(scores["score"], model.score(make_batch(600, 3)))
