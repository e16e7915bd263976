"""Whole training functions under Ray Train's controller."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.errors import ClusterError, ConfigError, DataError
from weiml.group import LocalGroup, WorkerContext, WorkerGroupConfig, run_on_ray_train
from weiml.group.base import Collective


def make_functions() -> dict[str, Any]:
    def train(context: WorkerContext, steps: int, crash: str | None) -> Collective:
        """Descend to the workers' mean; the first attempt of worker 1 dies half way."""
        target = np.full(50, context.rank, np.float32)
        weights = np.zeros(50, np.float32)
        for step in range(steps):
            if crash is not None and context.rank == 1 and step == 2 and not os.path.exists(crash):
                open(crash, "w").close()
                os._exit(3)
            weights -= np.float32(0.3) * (yield weights - target)
        return weights

    def broken(context: WorkerContext) -> Collective:
        yield np.zeros(1)
        raise DataError("example 17 is broken")

    return {f.__name__: f for f in (train, broken)}


FUNCTIONS = make_functions()
CONFIG = WorkerGroupConfig(num_workers=2, cpus_per_worker=0.5, max_restarts=1)


def test_a_function_gives_the_bits_of_logical_workers(ray_session: None) -> None:
    before = signal.getsignal(signal.SIGINT)
    found = run_on_ray_train(FUNCTIONS["train"], CONFIG, 5, None)
    assert signal.getsignal(signal.SIGINT) is before
    np.testing.assert_array_equal(found, LocalGroup(2).run(FUNCTIONS["train"], 5, None))


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(ray_session: None, tmp_path: Path) -> None:
    crash = tmp_path / "crashed"
    found = run_on_ray_train(FUNCTIONS["train"], CONFIG, 5, str(crash))
    assert crash.exists()
    expected = LocalGroup(2).run(FUNCTIONS["train"], 5, None)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_an_elastic_size_is_what_there_is_room_for(ray_session: None) -> None:
    config = WorkerGroupConfig(num_workers=1, max_workers=3, cpus_per_worker=1.0)
    found = run_on_ray_train(FUNCTIONS["train"], config, 1, None)
    assert len(found) == 2


@pytest.mark.slow
def test_an_error_of_the_function_comes_out(ray_session: None) -> None:
    config = WorkerGroupConfig(num_workers=1, cpus_per_worker=0.5)
    with pytest.raises(DataError, match="example 17 is broken"):
        run_on_ray_train(FUNCTIONS["broken"], config)


def test_workers_of_no_resources_are_refused(ray_session: None) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        run_on_ray_train(FUNCTIONS["train"], WorkerGroupConfig(cpus_per_worker=0.0), 1, None)


def test_ray_must_be_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match="not connected"):
        run_on_ray_train(FUNCTIONS["train"], CONFIG, 1, None)
