"""Whole plans: stages run once, reruns are exactly those behind a change, crashes go on."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.models.conftest import make_batch
from tests.train.plans.conftest import FEATURES, clicks
from weiml.config import lay_over
from weiml.data import BatchDataset, write_batches
from weiml.errors import DataError
from weiml.models import ModelFolder, Predictor
from weiml.serving import Servable
from weiml.serving.protocol import InferRequest, Tensor
from weiml.train import evaluate_model
from weiml.train.plans import Plan, PlanResult, run_plan
from weiml.train.plans.stages import MODEL

STAGES = (
    "split",
    "encoder",
    "batches-train",
    "batches-validation",
    "batches-calibration",
    "batches-test",
    "network",
    "calibration",
    "test",
)
Tree = dict[str, Any]


def plan_of(tree: Tree, **sections: Tree) -> Plan:
    return Plan.from_mapping(lay_over(tree, sections))


def snapshot(result: PlanResult, stage: str = "calibration") -> str:
    """The id of a model's content: equal for equal bits."""
    return ModelFolder.open(result.stage(stage).folder / MODEL).snapshot


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, views: Path) -> Path:
    """A folder in which the plan of `tree` has run; to be copied before it is changed."""
    folder: Path = tmp_path_factory.mktemp("done") / "plan"
    return folder


@pytest.fixture
def ran(done: Path, tree: Tree) -> PlanResult:
    return run_plan(plan_of(tree), done)


@pytest.fixture
def folder(ran: PlanResult, tmp_path: Path) -> Path:
    """A copy of its own."""
    shutil.copytree(ran.folder, tmp_path / "plan")
    return tmp_path / "plan"


def test_stages_run_once(tree: Tree, tmp_path: Path) -> None:
    told: list[str] = []
    first = run_plan(plan_of(tree), tmp_path, progress=lambda text, *_: told.append(text))
    assert first.ran == STAGES
    assert {f"{stage}: begins" for stage in STAGES} <= set(told)
    assert any(line.startswith("network: epoch 2/2, loss 0.") for line in told)
    told.clear()
    again = run_plan(plan_of(tree), tmp_path, progress=lambda text, *_: told.append(text))
    assert again.cached == STAGES
    assert again.ran == ()
    assert told == [f"{stage}: cached" for stage in STAGES]
    assert (again.model, again.before, again.after) == (first.model, first.before, first.after)
    assert not list(tmp_path.glob(".*.unfinished")) + list(tmp_path.glob(".*.writing"))
    assert json.loads((tmp_path / "result.json").read_text()) == again.to_mapping()
    assert "calibration_ratio" in again.text()


def test_calibration_puts_thinned_negatives_right_and_leaves_the_order(ran: PlanResult) -> None:
    before, after = ran.before, ran.after
    assert before["calibration_ratio"] > 1.8
    assert after["calibration_ratio"] == pytest.approx(1, abs=4 * after["calibration_ratio_se"])
    assert after["ne"] < before["ne"] - 0.1
    assert after["ne"] < 0.95
    assert after["auc"] > 0.7
    assert after["auc"] == pytest.approx(before["auc"], abs=0.003)
    assert after["auc_se"] > 0


def test_what_is_served_is_calibrated(ran: PlanResult) -> None:
    raw = Predictor.load(ran.stage("network").folder / MODEL)
    served = ran.predictor()
    batch = BatchDataset.open(ran.stage("batches-test").folder / "batches").read()
    fitted = served.calibration
    assert fitted is not None
    np.testing.assert_array_equal(served.score(batch), fitted(raw.score(batch)))
    assert evaluate_model(served, batch)[0] == ran.after


@pytest.mark.parametrize(
    ("changed", "reruns"),
    [
        ({"calibration": {"name": "platt"}}, ("calibration", "test")),
        ({"network": {"model": {"optimizer": {"alpha": 0.2}}}}, STAGES[6:]),
        ({"network": {"epochs": 3}}, STAGES[6:]),
        ({"network": {"num_shards": 2, "progress_steps": 3}}, ()),
        ({"test": {"metrics": ["auc"]}}, ()),
        ({"data": {"engine": "local", "identify": "content"}}, ()),
        ({"data": {"keep_negatives": 0.5}}, tuple(s for s in STAGES if s != "split")),
    ],
)
def test_a_change_reruns_its_stage_and_those_behind(
    changed: Tree, reruns: tuple[str, ...], tree: Tree, folder: Path
) -> None:
    if changed.get("calibration"):
        tree["calibration"] = changed["calibration"]
    result = run_plan(plan_of(tree, **changed), folder)
    assert result.ran == reruns
    assert run_plan(plan_of(tree, **changed), folder).ran == ()


def test_changed_data_and_changed_code_rerun_all(
    tree: Tree, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "views.parquet"
    shutil.copyfile(tree["data"]["files"], file)
    tree["data"]["files"] = str(file)
    assert run_plan(plan_of(tree), folder).ran == ()  # equal contents elsewhere
    pq.write_table(clicks(6_000, seed=5), file)
    assert run_plan(plan_of(tree), folder).ran == STAGES
    monkeypatch.setattr("weiml.train.plans.run.code_digest", lambda: "another")
    assert run_plan(plan_of(tree), folder).ran == STAGES


def test_a_damaged_stage_is_made_again_and_gives_the_same(
    tree: Tree, folder: Path, ran: PlanResult
) -> None:
    network = ran.stage("network").folder.name
    (folder / network / MODEL / "encoder.json").write_text("{}")
    again = run_plan(plan_of(tree), folder)
    assert again.ran == ("network",)
    assert snapshot(again, "network") == snapshot(ran, "network")


class BrokenError(Exception):
    """Of this test."""


def test_an_exception_leaves_what_is_done_and_the_network_goes_on(
    tree: Tree, folder: Path, ran: PlanResult
) -> None:
    for name in ("network", "calibration", "test"):
        shutil.rmtree(folder / ran.stage(name).folder.name)

    def break_off(text: str, *_: object) -> None:
        if text.startswith("network: epoch 2"):
            raise BrokenError

    with pytest.raises(BrokenError):
        run_plan(plan_of(tree), folder, progress=break_off)
    assert not list(folder.glob("network-*")) + list(folder.glob(".*.writing"))
    told: list[str] = []
    result = run_plan(plan_of(tree), folder, progress=lambda text, *_: told.append(text))
    assert result.ran == ("network", "calibration", "test")
    assert result.stage("network").resumed
    assert not any(line.startswith("network: epoch 1") for line in told)
    assert snapshot(result) == snapshot(ran)
    assert (result.before, result.after) == (ran.before, ran.after)
    assert not list(folder.glob(".*.unfinished"))


KILLED = """
import json, os, signal, sys
from weiml.train.plans import Plan, run_plan

def kill(text, *_):
    if text.startswith("network: epoch 2"):
        os.kill(os.getpid(), signal.SIGKILL)

run_plan(Plan.from_mapping(json.loads(sys.argv[1])), sys.argv[2], progress=kill)
"""


def test_a_killed_run_goes_on_to_the_bit(tree: Tree, tmp_path: Path, ran: PlanResult) -> None:
    command = [sys.executable, "-c", KILLED, json.dumps(tree), str(tmp_path / "plan")]
    killed = subprocess.run(command, env={**os.environ}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list((tmp_path / "plan").glob(".network-*.writing"))
    result = run_plan(plan_of(tree), tmp_path / "plan")
    assert result.ran == ("network", "calibration", "test")
    assert result.stage("network").resumed
    assert snapshot(result) == snapshot(ran)
    assert result.after == ran.after
    assert not list((tmp_path / "plan").glob(".*.writing"))


def _check_served(result: PlanResult) -> None:
    """The endpoint's scores are those of the calibrated model offline."""
    predictor = result.predictor()
    table = clicks(200, seed=9)
    table = table.set_column(1, "user_id", pa.array([3] * 200))
    table = table.set_column(4, "timestamp", pa.array([7] * 200))
    inputs = {name: Tensor.of(name, table[name].to_numpy()) for name in ("item_id", "price")}
    inputs |= {
        name: Tensor.of(name, table[name][:1].to_numpy()) for name in ("user_id", "timestamp")
    }
    version, outputs = Servable.load(result.model, None).infer(MODEL, InferRequest(inputs=inputs))
    offline = predictor.score(predictor.encoder.encode(table))
    np.testing.assert_allclose(outputs[0].data, offline, atol=1e-6)
    assert version == predictor.version
    raw = Predictor.load(result.stage("network").folder / MODEL)
    assert raw.score(predictor.encoder.encode(table)).mean() > 1.5 * offline.mean()


def test_trees_come_before_the_network(tree: Tree, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    tree["data"]["shares"] = {"train": 0.3, "validation": 0.1, "calibration": 0.3, "test": 0.3}
    features = [*FEATURES["features"][:2], {"type": "continuous", "name": "price"}]
    tree["features"] = {"features": features}
    tree["trees"] = {"rounds": 12, "num_leaves": 6, "max_categories": 32}
    tree["network"]["model"] = {"name": "gbdt_lr", "only_leaves": True}
    first = run_plan(plan_of(tree), tmp_path)
    assert first.ran == (*STAGES[:6], "trees", *STAGES[6:])
    assert first.after["auc"] > 0.7
    _check_served(first)
    other = copy.deepcopy(tree)
    other["network"]["batch_size"] = 256
    assert run_plan(plan_of(other), tmp_path).ran == STAGES[6:]
    other["trees"]["rounds"] = 13
    assert run_plan(plan_of(other), tmp_path).ran == ("trees", *STAGES[6:])


def test_sets_of_batches_need_no_features(tmp_path: Path) -> None:
    parts = {"train": 1500, "calibration": 800, "test": 800}
    for seed, (part, count) in enumerate(parts.items()):
        write_batches([make_batch(count, seed)], tmp_path / part)
    data = {part: str(tmp_path / part) for part in parts}
    plan = Plan.from_mapping({"data": data, "network": {"epochs": 1}, "calibration": "platt"})
    result = run_plan(plan, tmp_path / "plan")
    assert result.ran == ("network", "calibration", "test")
    assert result.after["ne"] < 1
    shutil.rmtree(tmp_path / "test")
    write_batches([make_batch(900, 8)], tmp_path / "test")
    assert run_plan(plan, tmp_path / "plan").ran == ("test",)
    data["calibration"] = data["train"]
    same = Plan.from_mapping({"data": data})
    with pytest.raises(DataError, match=r"data.train and data.calibration have 1 files in common"):
        run_plan(same, tmp_path / "plan")


def test_one_run_at_a_time(tree: Tree, folder: Path) -> None:
    def again(text: str, *_: object) -> None:
        run_plan(plan_of(tree), folder)

    with pytest.raises(DataError, match="another run works in"):
        run_plan(plan_of(tree), folder, progress=again)
