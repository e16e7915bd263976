"""Workers or servers that are killed in the middle of a step change no bit of what is trained."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.errors import ClusterError
from weiml.ps import RayParameterServer
from weiml.train import Callback, Progress, TrainConfig, Trainer

MODEL = {"name": "wide_deep", "hidden": [8], "embedding_dim": 4, "dropout": 0.2}


def config(transport: str, **values: Any) -> TrainConfig:
    fields = {"model": MODEL, "batch_size": 100, "epochs": 2, "seed": 4, "threads": 1}
    steps = {"progress_steps": 1, "checkpoint_steps": 3, "num_workers": 2, "num_shards": 2}
    ray = {"transport": transport, "cpus_per_worker": 0.5, "early_stopping_patience": 0}
    return from_mapping(TrainConfig, {**fields, **steps, **ray, **values})


class Kill(Callback):
    """Kills one process of those that are there, after so many reports; counts restarts."""

    def __init__(self, pids: list[int], reports: list[int], seed: int) -> None:
        self.pids = pids
        self.restarts: list[str] = []
        self._reports = list(reports)
        self._rng = np.random.default_rng(seed)
        self._seen = 0

    def on_progress(self, at: Progress) -> None:
        self._seen += 1
        if self._reports and self._seen >= self._reports[0]:
            self._reports.pop(0)
            os.kill(self.pids[int(self._rng.integers(len(self.pids)))], signal.SIGKILL)

    def on_restart(self, error: Exception) -> None:
        self.restarts.append(str(error))


def test_killed_workers_change_no_bit(
    sets: Sets, pids: list[int], ray_session: None, tmp_path: Path
) -> None:
    kill = Kill(pids, [2, 11], seed=1)
    broken = Trainer(config("ray")).fit(
        sets.train, sets.validation, callbacks=[kill], checkpoints=tmp_path / "run"
    )
    whole = Trainer(config("embedded")).fit(sets.train, sets.validation)
    assert len(kill.restarts) == 2
    assert all("died" in error for error in kill.restarts), kill.restarts
    assert broken.steps == whole.steps == 20
    batch = sets.validation.read()
    np.testing.assert_array_equal(broken.predictor().score(batch), whole.predictor().score(batch))
    assert broken.version.split(".")[0] == whole.version.split(".")[0]
    losses = [[entry["train_loss"] for entry in result.history] for result in (broken, whole)]
    assert losses[0] == losses[1]


def test_workers_that_die_too_often_end_the_run(
    sets: Sets, pids: list[int], ray_session: None
) -> None:
    kill = Kill(pids, [4, 5, 6], seed=2)
    with pytest.raises(ClusterError, match="died"):
        Trainer(config("ray", max_restarts=1)).fit(sets.train, callbacks=[kill])
    assert len(kill.restarts) == 1


def test_what_cannot_begin_is_not_tried_again(
    sets: Sets, ray_session: None, tmp_path: Path
) -> None:
    kill = Kill([], [], seed=0)
    many = config("ray", num_workers=64, cpus_per_worker=1, timeout_s=5.0)
    with pytest.raises(ClusterError, match="64"):
        Trainer(many).fit(sets.train, callbacks=[kill], checkpoints=tmp_path / "run")
    assert not kill.restarts


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_servers_change_no_bit(
    sets: Sets, ray_session: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    servers: list[int] = []
    create = RayParameterServer.create

    def noted(*arguments: Any, **fields: Any) -> RayParameterServer:
        server = create(*arguments, **fields)
        servers[:] = [shard["pid"] for shard in server.status()["shards"]]
        return server

    monkeypatch.setattr(RayParameterServer, "create", noted)
    rng = np.random.default_rng(seed)
    kill = Kill(servers, [int(rng.integers(4, 16))], seed)
    broken = Trainer(config("ray")).fit(sets.train, callbacks=[kill])
    whole = Trainer(config("embedded")).fit(sets.train)
    assert kill.restarts
    batch = sets.validation.read()
    np.testing.assert_array_equal(broken.predictor().score(batch), whole.predictor().score(batch))
