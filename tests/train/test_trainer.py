"""The training loop: equal on every transport, keeps the best epoch, cleans up whatever happens."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.conftest import make_batch
from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.data import write_batches
from weiml.errors import ClusterError, ConfigError, DataError
from weiml.group import WorkerContext, WorkerGroup
from weiml.models import ModelFolder, Predictor
from weiml.ps import EmbeddedParameterServer, RayParameterServer, list_groups
from weiml.train import Progress, TrainConfig, Trainer, TrainResult, evaluate_model

SMALL = {"hidden": [16, 8], "embedding_dim": 4, "dropout": 0.2}


def config(model: Any = "lr", **values: Any) -> TrainConfig:
    table = {"name": model, **SMALL} if model == "wide_deep" else model
    fields = {"model": table, "epochs": 2, "batch_size": 128, "seed": 5}
    return from_mapping(TrainConfig, fields | {"cpus_per_worker": 0.5, "threads": 1} | values)


def groups_left() -> list[str]:
    """Return the groups that trainers made; other tests may share groups of their own."""
    return [name for name in list_groups() if name.startswith("weiml-train")]


def scores(result: TrainResult, sets: Sets) -> np.ndarray:
    return result.predictor().score(sets.validation.read())


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_two_shards_and_workers_on_ray_equal_two_logical_workers(
    model: str, sets: Sets, ray_session: None
) -> None:
    ray_config = config(model, transport="ray", num_shards=2, num_workers=2)
    remote = Trainer(ray_config).fit(sets.train, sets.validation)
    local = Trainer(config(model, num_workers=2)).fit(sets.train, sets.validation)
    np.testing.assert_array_equal(scores(remote, sets), scores(local, sets))
    assert remote.version.split(".")[0] == local.version.split(".")[0]
    for mine, theirs in zip(remote.history, local.history, strict=True):
        for name in ("train_loss", "validation_auc", "validation_log_loss", "examples"):
            assert mine[name] == theirs[name]
    assert not groups_left()


@pytest.mark.parametrize(("staleness", "accumulate"), [(1, 1), (1, 3), ("asp", 2)])
def test_pushes_beside_the_next_step_leave_the_same_model(
    staleness: Any, accumulate: int, sets: Sets, ray_session: None
) -> None:
    """On Ray they are sent while the next step computes; rows are one step old either way."""
    loose = config("wide_deep", staleness=staleness, accumulate=accumulate)
    local = Trainer(loose).fit(sets.train)
    remote = Trainer(replace(loose, transport="ray", num_shards=2)).fit(sets.train)
    np.testing.assert_array_equal(scores(remote, sets), scores(local, sets))
    assert [entry["train_loss"] for entry in remote.history] == [
        entry["train_loss"] for entry in local.history
    ]


@pytest.mark.parametrize(
    ("model", "transport", "staleness"),
    [
        ("lr", "embedded", 2),
        ("lr", "ray", "asp"),
        ("wide_deep", "ray", 1),
        ("max_norm_dnn", "ray", "asp"),
    ],
)
def test_looser_clocks_train_too(
    model: str, transport: str, staleness: Any, sets: Sets, request: pytest.FixtureRequest
) -> None:
    if transport == "ray":
        request.getfixturevalue("ray_session")
    loose = config(model, transport=transport, num_shards=2, num_workers=2, staleness=staleness)
    result = Trainer(loose).fit(sets.train, sets.validation)
    assert result.history[-1]["examples"] == 2000
    assert max(entry["validation_auc"] for entry in result.history) > 0.6


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_equal_seeds_give_equal_models(model: str, sets: Sets) -> None:
    first = Trainer(config(model)).fit(sets.train)
    second = Trainer(config(model, num_shards=3)).fit(sets.train)
    other = Trainer(config(model, seed=6)).fit(sets.train)
    np.testing.assert_array_equal(scores(first, sets), scores(second, sets))
    assert not np.array_equal(scores(first, sets), scores(other, sets))


def test_history_curve_and_progress_agree(sets: Sets) -> None:
    seen: list[Progress] = []
    result = Trainer(config(progress_steps=5, early_stopping_patience=0, epochs=3)).fit(
        sets.train, sets.validation, progress=seen.append
    )
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    assert [point["examples"] for point in result.curve[3::4]] == [2000, 4000, 6000]
    assert len(seen) == len(result.curve) == 12  # 16 steps an epoch in fives
    assert seen[3].step == seen[3].steps == 16
    assert seen[3].loss == result.history[0]["train_loss"]
    assert result.history[0]["examples_per_second"] > 0
    best = min(result.history, key=lambda entry: float(entry["validation_log_loss"]))
    assert result.best_epoch == best["epoch"]


def test_the_best_epoch_is_kept(sets: Sets) -> None:
    wild = {
        "name": "lr",
        "optimizer": {"alpha": 5.0, "l2": 0.0},
    }  # overfits from the first epoch on
    settings = config(wild, epochs=6, early_stopping_patience=2)
    with EmbeddedParameterServer() as server:
        result = Trainer(settings, server=server).fit(sets.train, sets.validation)
        assert len(result.history) == result.best_epoch + 2
        best = result.history[result.best_epoch - 1]
        kept = evaluate_model(result.predictor(), sets.validation)[0]
        assert kept["log_loss"] == best["validation_log_loss"]
        _, weights = server.client().delta(0).tables["linear"]
        assert server.status()["live"] == []
        assert np.sort(weights[weights != 0]).tolist() == sorted(
            ModelFolder.open(result.folder).tables()["linear"][1][:, 0].tolist()
        )


def test_the_best_auc_is_the_highest(sets: Sets) -> None:
    wild = {"name": "lr", "optimizer": {"alpha": 5.0, "l2": 0.0}}
    settings = config(wild, epochs=4, early_stopping_patience=0, early_stopping_metric="auc")
    result = Trainer(settings).fit(sets.train, sets.validation)
    values = [float(entry["validation_auc"]) for entry in result.history]
    assert len(set(values)) > 1
    assert result.best_epoch == int(np.argmax(values)) + 1


def test_all_workers_together_train_on_all_examples(tmp_path: Path) -> None:
    batch = make_batch(400)
    keys = batch.keys.copy()
    users = np.arange(10_000, 10_400, dtype=np.uint64)
    keys[batch.offsets[0:-1:3]] = users  # every example has a key of its own
    everything = write_batches([replace(batch, keys=keys)], tmp_path / "train")
    with EmbeddedParameterServer(num_workers=2) as server:
        Trainer(config(epochs=1, num_workers=2), server=server).fit(everything)
        touched, _ = server.client().delta(0).tables["linear"]
    assert set(users.tolist()) <= set(touched.tolist())


def test_a_validation_set_without_the_metric_is_refused(sets: Sets, tmp_path: Path) -> None:
    batch = make_batch(50)
    alike = replace(batch, labels=np.ones_like(batch.labels))
    settings = config(early_stopping_metric="auc")
    with pytest.raises(DataError, match="validation set has no auc"):
        Trainer(settings).fit(sets.train, write_batches([alike], tmp_path / "alike"))


def test_saving_is_whole_and_outlives_the_result(sets: Sets, tmp_path: Path) -> None:
    result = Trainer(config("wide_deep")).fit(sets.train)
    expected, temporary = scores(result, sets), result.folder
    saved = result.save(tmp_path / "model")
    with pytest.raises(DataError, match="not empty"):
        result.save(tmp_path / "model")
    assert saved.version == result.version
    del result
    assert not temporary.exists()
    np.testing.assert_array_equal(
        Predictor.load(saved.path).score(sets.validation.read()), expected
    )


def test_a_killed_worker_is_an_error_and_leaves_nothing(
    sets: Sets, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    start = WorkerGroup.start

    def remembered(*arguments: Any, **settings: Any) -> WorkerGroup:
        group = start(*arguments, **settings)

        def pid(context: WorkerContext) -> int:
            return os.getpid()

        pids.extend(group.execute(pid))
        return group

    monkeypatch.setattr(WorkerGroup, "start", remembered)
    killed: list[int] = []

    def kill_one(at: Progress) -> None:
        if not killed:
            killed.append(pids[1])
            os.kill(pids[1], signal.SIGKILL)

    settings = config(transport="ray", num_workers=2, progress_steps=2, epochs=50)
    with pytest.raises(ClusterError, match="worker 1 of 2 died"):
        Trainer(settings).fit(sets.train, progress=kill_one)
    assert not groups_left()
    deadline = time.monotonic() + 20  # Ray has to reap what was killed
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, f"worker processes {pids} are left"
        time.sleep(0.02)


def test_a_server_that_was_passed_in_stays_open(sets: Sets, ray_session: None) -> None:
    with RayParameterServer.create(num_shards=1, name="weiml-test-trainer") as server:
        Trainer(config(transport="ray", epochs=1), server=server).fit(sets.train)
        assert "weiml-test-trainer" in list_groups()
        assert not groups_left()
        assert server.status()["tables"]["linear"] > 0


def test_training_goes_on_from_the_rows_of_a_server_that_was_passed_in(sets: Sets) -> None:
    with EmbeddedParameterServer() as server:
        first = Trainer(config(epochs=1), server=server).fit(sets.train)
        more = Trainer(config(epochs=1), server=server).fit(sets.train)
        assert more.history[0]["train_loss"] < first.history[0]["train_loss"]


def test_values_that_are_not_finite_are_named(sets: Sets, tmp_path: Path) -> None:
    batch = make_batch(300)
    dense = batch.dense.copy()
    dense[200, 1] = np.nan
    broken = write_batches([replace(batch, dense=dense)], tmp_path / "broken")
    with pytest.raises(DataError, match=r"worker 0, epoch 1, step \d: dense column 'price'"):
        Trainer(config()).fit(broken)


def test_sets_that_do_not_fit_are_named(sets: Sets, tmp_path: Path) -> None:
    other = replace(make_batch(10), slots=("a", "b", "c"))
    with pytest.raises(DataError, match="same encoder"):
        Trainer(config()).fit(sets.train, write_batches([other], tmp_path / "other"))
    empty = write_batches([make_batch(0)], tmp_path / "empty")
    with pytest.raises(DataError, match="has 0 examples for num_workers = 1"):
        Trainer(config()).fit(empty)
    with pytest.raises(DataError, match="is empty"):
        Trainer(config()).fit(sets.train, empty)


def test_a_server_for_other_workers_is_refused() -> None:
    with (
        EmbeddedParameterServer(num_workers=3) as server,
        pytest.raises(ConfigError, match="num_workers = 3 in its clock, the training 2"),
    ):
        Trainer(config(num_workers=2), server=server)
