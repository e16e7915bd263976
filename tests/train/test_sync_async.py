"""Global steps are there once under every clock; synchronous workers are one with a big batch."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.group import WorkerContext, WorkerGroup
from weiml.ps import EmbeddedParameterServer
from weiml.train import Callback, Progress, StepLog, TrainConfig, Trainer

SGD = {"name": "sgd", "lr": 0.02}
DNN = {"name": "dnn", "hidden": [8], "embedding_dim": 4, "lr": 0.1, "optimizer": "sgd"}
CLOCKS = [0, 3, "asp"]


def config(model: dict[str, Any] | None = None, **values: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "batch_size": 50,
        "epochs": 2,
        "seed": 4,
        "threads": 1,
        "progress_steps": 4,
    }
    fields |= {"early_stopping_patience": 0, "cpus_per_worker": 0.5, "timeout_s": 60.0}
    return from_mapping(TrainConfig, {"model": model or {"name": "lr"}, **fields, **values})


def scores(sets: Sets, model: dict[str, Any], **values: Any) -> np.ndarray:
    result = Trainer(config(model, **values)).fit(sets.train)
    return result.predictor().score(sets.validation.read())


def difference(sets: Sets, rows: dict[str, Any], workers: int, **values: Any) -> float:
    model = {**DNN, "multiplicity": "sum", "embedding": rows}
    values = {"split": "steps", **values}
    one = scores(sets, model, batch_size=400)
    several = scores(sets, model, batch_size=400 // workers, num_workers=workers, **values)
    return float(np.abs(several - one).max())


@pytest.mark.parametrize("dense", ["group", "servers"])
@pytest.mark.parametrize("workers", [2, 4])
def test_synchronous_workers_of_sgd_are_one_with_the_large_batch(
    workers: int, dense: str, sets: Sets
) -> None:
    if dense == "group":
        assert difference(sets, SGD, workers) < 1e-5
    else:  # the mean of the workers' means: their examples differ in weight
        assert 1e-5 < difference(sets, SGD, workers, dense=dense) < 1e-2


def test_other_examples_in_a_step_are_another_run(sets: Sets) -> None:
    assert difference(sets, SGD, 2, split="ranges") > 1e-3


@pytest.mark.parametrize(
    "rows",
    [{"name": "adagrad", "lr": 0.05}, {"name": "adam", "lr": 0.01}, {"name": "ftrl", "alpha": 0.1}],
    ids=lambda rows: str(rows["name"]),
)
def test_rules_that_remember_take_several_pushes_for_several_steps(
    rows: dict[str, Any], sets: Sets
) -> None:
    assert difference(sets, rows, 2) > 1e-4


def check(log: StepLog, steps: int, workers: int) -> None:
    assert log.faults() == []
    by_worker = log.by_worker()
    assert [len(numbers) for numbers in by_worker] == [steps] * workers
    together = np.concatenate(by_worker)
    assert sorted(together.tolist()) == list(range(1, steps * workers + 1))
    assert all((np.diff(numbers) > 0).all() for numbers in by_worker)


@pytest.mark.parametrize("staleness", CLOCKS)
def test_global_steps_are_there_once(staleness: Any, sets: Sets) -> None:
    log, seen = StepLog(), list[Progress]()
    settings = config(num_workers=3, staleness=staleness, num_shards=2)
    result = Trainer(settings).fit(sets.train, callbacks=[log], progress=seen.append)
    check(log, result.steps, 3)
    assert result.global_step == 3 * result.steps == seen[-1].global_step


def test_a_server_that_has_counted_before_counts_a_run_from_one(sets: Sets) -> None:
    with EmbeddedParameterServer(num_workers=2) as server:
        for _ in range(2):
            log = StepLog()
            result = Trainer(config(num_workers=2), server=server).fit(sets.train, callbacks=[log])
            check(log, result.steps, 2)
        assert server.status()["global_step"] == 2 * result.global_step


class _Stop(Callback):
    def __init__(self, reports: int) -> None:
        self._left = reports

    def on_progress(self, at: Progress) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("staleness", CLOCKS)
def test_a_run_that_goes_on_repeats_what_it_lost_and_no_more(
    staleness: Any, sets: Sets, tmp_path: Path
) -> None:
    settings = config(num_workers=2, staleness=staleness, checkpoint_steps=8)
    log = StepLog()
    with pytest.raises(KeyboardInterrupt):
        Trainer(settings).fit(sets.train, checkpoints=tmp_path / "run", callbacks=[log, _Stop(5)])
    late = StepLog()
    result = Trainer(settings).fit(sets.train, checkpoints=tmp_path / "run", callbacks=[log, late])
    check(log, result.steps, 2)
    assert log.forgotten == 2 * 4  # the fifth report's: the checkpoint was at the fourth
    assert late.faults() == []
    assert min(map(min, late.by_worker())) == 2 * 16 + 1


class _Kill(Callback):
    """Kills worker 1 in the middle of the run."""

    def __init__(self, group: list[WorkerGroup], at: int) -> None:
        self._group, self._at, self.errors = group, at, list[Exception]()

    def on_progress(self, at: Progress) -> None:
        if not self.errors and at.global_step >= self._at:
            os.kill(self._group[-1].execute(_pid)[1], signal.SIGKILL)

    def on_restart(self, error: Exception) -> None:
        self.errors.append(error)


def _pid(context: WorkerContext) -> int:
    return os.getpid()


@pytest.mark.parametrize(
    ("model", "staleness"),
    [
        (None, 0),
        pytest.param(None, 3, marks=pytest.mark.slow),
        (None, "asp"),
        (DNN, 1),  # whose pushes go beside the next step
        pytest.param(DNN, "asp", marks=pytest.mark.slow),
    ],
)
def test_global_steps_are_there_once_though_a_worker_was_killed(
    model: dict[str, Any] | None,
    staleness: Any,
    sets: Sets,
    ray_session: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups: list[WorkerGroup] = []
    start = WorkerGroup.start

    def remembered(*arguments: Any, **settings: Any) -> WorkerGroup:
        groups.append(start(*arguments, **settings))
        return groups[-1]

    monkeypatch.setattr(WorkerGroup, "start", remembered)
    log, kill = StepLog(), _Kill(groups, at=2 * 12)
    settings = config(
        model, transport="ray", num_workers=2, staleness=staleness, checkpoint_steps=8
    )
    result = Trainer(settings).fit(sets.train, callbacks=[log, kill])
    assert len(kill.errors) == 1
    assert log.forgotten > 0
    check(log, result.steps, 2)


def progress(begin: int, *numbers: list[int]) -> Progress:
    arrays = tuple(np.array(of) for of in numbers)
    return Progress(
        1, 1, 1, 1, 1.0, 0.0, global_step=begin + sum(map(len, arrays)), global_steps=arrays
    )


def test_a_log_says_what_is_wrong() -> None:
    log = StepLog()
    log.on_start(4)
    # What TensorFlow's log showed: both took some steps, and nobody others.
    log.on_progress(progress(0, [1, 2, 4], [2, 4, 0]))
    assert log.faults() == [
        "1 steps unknown",
        "3 steps missing, the first 3",
        "2 steps repeated, the first 2",
    ]
