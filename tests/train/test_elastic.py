"""A gang of another size takes the same steps: when there is less room, and when there is more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.data.batches.shares import Share
from weiml.errors import ClusterError, ConfigError
from weiml.group import WorkerGroup, WorkerGroupConfig
from weiml.ps import EmbeddedParameterServer
from weiml.train import Callback, Progress, StepLog, TrainConfig, Trainer, TrainResult
from weiml.train.elastic import regrouped, resized, sizes_of
from weiml.train.inputs import steps_of

MODEL = {"name": "wide_deep", "hidden": [8], "embedding_dim": 4}


def config(transport: str = "ray", **values: Any) -> TrainConfig:
    fields = {"model": MODEL, "batch_size": 100, "epochs": 3, "seed": 4, "threads": 1}
    steps = {"progress_steps": 1, "checkpoint_steps": 3, "num_workers": 2, "split": "steps"}
    rest = {"transport": transport, "early_stopping_patience": 0, "timeout_s": 60.0}
    return from_mapping(TrainConfig, {**fields, **steps, **rest, **values})


@given(
    examples=st.integers(1, 900),
    batch_size=st.integers(1, 40),
    workers=st.integers(1, 6),
    accumulate=st.integers(1, 4),
)
def test_every_size_takes_the_same_examples_in_a_step(
    examples: int, batch_size: int, workers: int, accumulate: int
) -> None:
    asked = config(
        num_workers=workers,
        accumulate=accumulate,
        batch_size=batch_size,
        min_workers=1,
        max_workers=workers * accumulate,
    )
    step = batch_size * workers * accumulate
    for size in sizes_of(asked):
        sized = resized(asked, size)
        assert sized.num_workers * sized.accumulate == workers * accumulate
        taken: list[set[int]] = []
        for rank in range(size):
            share = Share(examples, rank, size, batch_size, "steps")
            places = [place for part in share.within(0, examples) for place in range(*part)]
            most = sized.accumulate * batch_size
            for number, first in enumerate(range(0, len(places), most)):
                taken += [set()] * (number + 1 - len(taken))
                taken[number] = taken[number] | set(places[first : first + most])
        for number, places_of_all in enumerate(taken[: examples // step]):
            assert places_of_all == set(range(number * step, (number + 1) * step))
        whole = examples // (workers * accumulate) * workers * accumulate
        steps = steps_of(whole // size, batch_size, None, 1, sized.accumulate)
        assert steps == -(-whole // step)
        assert sum(map(len, taken[:steps])) >= whole - workers * accumulate


def test_sizes_are_those_among_which_batches_divide() -> None:
    assert sizes_of(config(num_workers=4, min_workers=1, max_workers=8)) == [1, 2, 4]
    assert sizes_of(config(num_workers=4, accumulate=2, min_workers=3, max_workers=8)) == [4, 8]
    assert sizes_of(config(num_workers=3)) == [3]


def test_states_of_ranks_are_kept_and_sums_moved() -> None:
    states = [
        {"vector": np.ones(2), "totals": np.array([10.0, 1.0]), "worker/generator": np.array([r])}
        for r in range(3)
    ]
    fewer = regrouped(states, 2)
    assert [state["worker/generator"][0] for state in fewer] == [0, 1]
    assert [state["totals"].tolist() for state in fewer] == [[30.0, 3.0], [0.0, 0.0]]
    more = regrouped(states, 4)
    assert "worker/generator" not in more[3]
    assert more[3]["vector"].tolist() == [1.0, 1.0]
    assert np.sum([state["totals"] for state in more], axis=0).tolist() == [30.0, 3.0]
    assert regrouped(states, 3) == states


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_workers": 3}, "must ascend from 1, got 3, 2, 2"),
        ({"max_workers": 1}, "must ascend from 1, got 2, 2, 1"),
        ({"min_workers": 1, "transport": "embedded"}, "runs on Ray"),
        ({"min_workers": 1, "split": "ranges"}, "split = 'steps'"),
        ({"min_workers": 1, "staleness": 1}, "staleness = 0"),
        ({"min_workers": 1, "first_batch_size": 10}, "first_batch_size"),
        ({"min_workers": 1, "dense": "servers"}, "dense = 'servers'"),
        ({"min_workers": 1, "model": "lr"}, "serially within each worker"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(**values)


def test_a_server_that_was_passed_in_keeps_its_clock() -> None:
    with (
        EmbeddedParameterServer(num_workers=2) as server,
        pytest.raises(ConfigError, match="server of the run's own"),
    ):
        Trainer(config(min_workers=1), server=server)


class Watch(Callback):
    """Notes sizes and steps, and takes or gives room as a run goes on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.steps: list[tuple[int, int]] = []
        self.restarts = 0
        self.held: list[Any] = []

    def hold(self, cpus: float) -> None:
        """Take room away, all of it being there."""
        self.held.append(ray.util.placement_group([{"CPU": cpus}]))
        ray.get(self.held[-1].ready(), timeout=30)

    def give(self) -> None:
        """Give room back."""
        while self.held:
            ray.util.remove_placement_group(self.held.pop())

    def on_resize(self, workers: int) -> None:
        self.sizes.append(workers)

    def on_progress(self, at: Progress) -> None:
        self.steps.append((at.epoch, at.step))

    def on_restart(self, error: Exception) -> None:
        self.restarts += 1


@pytest.fixture
def watch(ray_session: None) -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.give()


@pytest.fixture
def cpus(ray_session: None) -> float:
    """Return what a worker takes for two of them to fill the cluster."""
    return float(ray.cluster_resources()["CPU"]) / 2


@pytest.fixture(scope="module")
def whole(sets: Sets) -> TrainResult:
    """Return what two workers make of it from beginning to end."""
    return Trainer(config("embedded")).fit(sets.train, sets.validation)


def assert_alike(result: TrainResult, whole: TrainResult, sets: Sets) -> None:
    """The same steps, and sums that differ in the order of their terms."""
    assert result.steps == whole.steps == 30
    batch = sets.validation.read()
    mine, theirs = result.predictor().score(batch), whole.predictor().score(batch)
    np.testing.assert_allclose(mine, theirs, atol=2e-5)
    for one, other in zip(result.history, whole.history, strict=True):
        assert one["examples"] == other["examples"] == 2000
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)


def test_a_smaller_gang_takes_the_same_steps(
    sets: Sets, watch: Watch, cpus: float, whole: TrainResult
) -> None:
    watch.hold(cpus)
    small = config(min_workers=1, cpus_per_worker=cpus)
    result = Trainer(small).fit(sets.train, sets.validation, callbacks=[watch])
    assert watch.sizes == [1]
    assert result.global_step == 30
    assert_alike(result, whole, sets)


class Shrink(Watch):
    """Kills a worker in the second epoch, and takes its room when the gang is gone."""

    def __init__(self, pids: list[int], cpus: float) -> None:
        super().__init__()
        self._pids = pids
        self._cpus = cpus

    def on_progress(self, at: Progress) -> None:
        super().on_progress(at)
        if at.epoch == 2 and at.step == 5 and not self.restarts:
            os.kill(self._pids[1], signal.SIGKILL)

    def on_restart(self, error: Exception) -> None:
        super().on_restart(error)
        self.hold(self._cpus)


def test_a_run_goes_on_with_fewer_when_the_cluster_shrinks(
    sets: Sets,
    cpus: float,
    whole: TrainResult,
    pids: list[int],
    tmp_path: Path,
) -> None:
    shrink, log = Shrink(pids, cpus), StepLog()
    try:
        result = Trainer(config(min_workers=1, cpus_per_worker=cpus)).fit(
            sets.train, sets.validation, callbacks=[shrink, log], checkpoints=tmp_path / "run"
        )
    finally:
        shrink.give()
    assert (shrink.restarts, shrink.sizes) == (1, [1])
    assert log.faults() == []
    assert 30 < result.global_step < 60
    assert_alike(result, whole, sets)


class Grow(Watch):
    """Gives room back when the first epoch ends."""

    def on_epoch(self, entry: dict[str, Any]) -> None:
        if self.held:
            self.give()
            deadline = time.monotonic() + 30
            while ray.available_resources().get("CPU", 0.0) < 1 and time.monotonic() < deadline:
                time.sleep(0.05)


def test_a_run_takes_more_workers_when_there_is_room(
    sets: Sets, cpus: float, ray_session: None, whole: TrainResult, tmp_path: Path
) -> None:
    grow, log = Grow(), StepLog()
    grow.hold(cpus)
    try:
        result = Trainer(config(min_workers=1, cpus_per_worker=cpus)).fit(
            sets.train, sets.validation, callbacks=[grow, log], checkpoints=tmp_path / "run"
        )
    finally:
        grow.give()
    assert (grow.restarts, grow.sizes) == (0, [1, 2])
    assert log.faults() == []
    assert result.global_step == 10 + 20 * 2
    assert grow.steps == [(epoch, step) for epoch in (1, 2, 3) for step in range(1, 11)]
    assert_alike(result, whole, sets)


def test_a_gang_that_does_not_come_is_tried_smaller(
    sets: Sets, watch: Watch, cpus: float, whole: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = WorkerGroup.start
    tried: list[int] = []

    def fails(group: WorkerGroupConfig) -> WorkerGroup:
        tried.append(group.num_workers)
        if group.num_workers == 2:
            raise ClusterError("somebody else was faster")
        return start(group)

    monkeypatch.setattr(WorkerGroup, "start", fails)
    result = Trainer(config(min_workers=1, cpus_per_worker=cpus, checkpoint_steps=5)).fit(
        sets.train, sets.validation, callbacks=[watch]
    )
    assert tried == [2, 1]  # and none as large again after an epoch
    assert (watch.restarts, watch.sizes) == (0, [1])
    assert_alike(result, whole, sets)
