"""Growing trees: the same as plain LightGBM, however it is fed, cut into segments or spread."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import psutil
import pytest

from weiml.data import BatchDataset, write_batches
from weiml.errors import ClusterError, ConfigError, DataError
from weiml.features import Batch
from weiml.group import Group, WorkerGroup
from weiml.models import auc, log_loss
from weiml.models.trees import GBDTConfig, GBDTProgress, GBDTTrainer
from weiml.models.trees import trainer as driver
from weiml.models.trees import worker as work

Sets = tuple[BatchDataset, BatchDataset]
ExamplesOf = Callable[..., Batch]


def test_trees_are_those_of_plain_lightgbm_on_the_same_matrix(
    sets: Sets, small: GBDTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_BLOCK", 700)
    config = replace(small, bagging_fraction=0.8, feature_fraction=0.7)
    model = GBDTTrainer(config).fit(sets[0]).model
    batch = sets[0].read()
    matrix = model.columns.matrix(batch)
    data = lightgbm.Dataset(
        matrix,
        label=batch.labels[:, 0],
        weight=batch.weights,
        categorical_feature=list(model.columns.categorical),
        params=config.bin_parameters(),
    )
    plain = lightgbm.train(config.parameters(), data, config.rounds)
    np.testing.assert_array_equal(model.log_odds(batch), plain.predict(matrix, raw_score=True))
    np.testing.assert_array_equal(model.leaves(batch), plain.predict(matrix, pred_leaf=True))


def test_they_learn_numbers_categories_gaps_and_keys_of_several(
    sets: Sets, small: GBDTConfig
) -> None:
    result = GBDTTrainer(replace(small, rounds=60)).fit(*sets)
    batch = sets[1].read()
    found = auc(batch.labels[:, 0], result.model.score(batch), batch.weights)
    assert found > 0.78
    importance = result.model.importance()
    order = importance["column"].to_pylist()
    assert set(order[:3]) == {"x", "y", "city"}
    assert order.index("tags (count)") < 5


def test_history_tells_the_metrics_of_the_predictor_and_the_best_round_is_kept(
    sets: Sets, small: GBDTConfig
) -> None:
    seen: list[GBDTProgress] = []
    config = replace(small, rounds=300, early_stopping_rounds=10, early_stopping_metric="log_loss")
    result = GBDTTrainer(config).fit(*sets, progress=seen.append)
    losses = [entry["validation_log_loss"] for entry in result.history]
    assert result.best_round == 1 + int(np.argmin(losses)) == result.model.num_trees
    assert 10 <= len(losses) - result.best_round < 10 + config.progress_rounds
    batch = sets[1].read()
    scores = result.model.score(batch)
    best = result.history[result.best_round - 1]
    assert auc(batch.labels[:, 0], scores, batch.weights) == pytest.approx(
        best["validation_auc"], abs=1e-6
    )
    assert log_loss(batch.labels[:, 0], scores, batch.weights) == pytest.approx(
        best["validation_log_loss"], abs=1e-6
    )
    assert [p.round for p in seen] == list(range(4, len(losses) + 1, 4))
    assert seen[-1].best_round == result.best_round


def test_without_validation_all_rounds_are_kept(sets: Sets, small: GBDTConfig) -> None:
    seen: list[GBDTProgress] = []
    result = GBDTTrainer(small).fit(sets[0], progress=seen.append)
    assert result.model.num_trees == result.best_round == small.rounds
    assert math.isnan(seen[-1].auc)


class StopError(Exception):
    """Ends a run from outside."""


def stopping_at(round_: int) -> Callable[[GBDTProgress], None]:
    def progress(report: GBDTProgress) -> None:
        if report.round >= round_:
            raise StopError

    return progress


def test_an_interrupted_run_ends_with_the_same_trees_to_the_bit(
    sets: Sets, small: GBDTConfig, tmp_path: Path
) -> None:
    config = replace(
        small, checkpoint_rounds=4, progress_rounds=2, bagging_fraction=0.7, feature_fraction=0.6
    )
    whole = GBDTTrainer(config).fit(*sets)
    with pytest.raises(StopError):
        GBDTTrainer(config).fit(*sets, checkpoints=tmp_path, progress=stopping_at(10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["round-00000004", "round-00000008"]
    seen: list[GBDTProgress] = []
    resumed = GBDTTrainer(config).fit(*sets, checkpoints=tmp_path, progress=seen.append)
    assert seen[0].round == 10
    assert resumed.model.trees == whole.model.trees
    assert resumed.history == whole.history
    assert sorted(p.name for p in tmp_path.iterdir()) == ["round-00000008", "round-00000012"]


def test_segments_lose_nothing(sets: Sets, small: GBDTConfig) -> None:
    # Without draws, a run in segments grows the trees of one that is not cut, but for rounding.
    batch = sets[1].read()
    whole = GBDTTrainer(small).fit(sets[0]).model.log_odds(batch)
    cut = GBDTTrainer(replace(small, checkpoint_rounds=5)).fit(sets[0]).model.log_odds(batch)
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_checkpoints_of_another_recipe_or_other_examples_are_refused(
    sets: Sets, small: GBDTConfig, tmp_path: Path
) -> None:
    config = replace(small, rounds=4, checkpoint_rounds=2)
    GBDTTrainer(config).fit(sets[0], checkpoints=tmp_path)
    with pytest.raises(DataError, match="another configuration"):
        GBDTTrainer(replace(config, num_leaves=5)).fit(sets[0], checkpoints=tmp_path)
    with pytest.raises(DataError, match="other examples"):
        GBDTTrainer(config).fit(sets[1], checkpoints=tmp_path)
    longer = GBDTTrainer(replace(config, rounds=6)).fit(sets[0], checkpoints=tmp_path)
    assert longer.model.num_trees == 6


def test_training_ends_where_no_leaf_can_be_split(sets: Sets, small: GBDTConfig) -> None:
    config = replace(small, min_gain_to_split=150.0, rounds=100)
    result = GBDTTrainer(config).fit(*sets)
    assert 0 < len(result.history) < 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: replace(b, labels=np.repeat(b.labels, 2, axis=1)), "2 labels"),
        (lambda b: replace(b, labels=b.labels + np.float32(0.5)), "labels must be 0 or 1"),
        (lambda b: replace(b, labels=b.labels * 0), "both classes"),
        (lambda b: replace(b, weights=-b.weights), "not negative"),
    ],
)
def test_labels_and_weights_are_checked(
    change: Callable[[Batch], Batch],
    message: str,
    examples_of: ExamplesOf,
    tmp_path: Path,
    small: GBDTConfig,
) -> None:
    data = write_batches([change(examples_of(200))], tmp_path / "data")
    with pytest.raises(DataError, match=message):
        GBDTTrainer(small).fit(data)


def test_a_validation_set_of_other_columns_is_refused(
    sets: Sets, small: GBDTConfig, examples_of: ExamplesOf, tmp_path: Path
) -> None:
    other = write_batches([replace(examples_of(50), slots=("city", "tag"))], tmp_path / "other")
    with pytest.raises(DataError, match="same encoder"):
        GBDTTrainer(small).fit(sets[0], other)


def test_without_lightgbm_it_says_what_to_install(
    sets: Sets, small: GBDTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(ConfigError, match=r"weiml\[trees\]"):
        GBDTTrainer(small).fit(sets[0])


class Lent(Group):
    """Workers that outlive a run: starting them takes longest."""

    def __init__(self, group: WorkerGroup) -> None:
        self.group = group
        self.num_workers = group.num_workers
        self.answers: dict[str, list[list[Any]]] = {}

    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        answers = self.group.execute(function, *arguments)
        self.answers.setdefault(function.__name__, []).append(answers)
        return answers

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        return self.group.run(function, *arguments)

    def shutdown(self) -> None:
        pass


@pytest.fixture(scope="module")
def two_workers(ray_session: None) -> Iterator[WorkerGroup]:
    with WorkerGroup.create(2, backend="none", timeout_s=60) as group:
        yield group


def spread(config: GBDTConfig) -> GBDTConfig:
    return replace(config, transport="ray", num_workers=2, timeout_s=60)


def test_two_workers_grow_what_one_grows(
    sets: Sets, small: GBDTConfig, two_workers: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = Lent(two_workers)
    monkeypatch.setattr(driver, "_make_group", lambda config: lent)
    # Spread, LightGBM estimates how many examples a leaf has, so limits on them act differently.
    config = replace(small, checkpoint_rounds=6, min_data_in_leaf=1, min_data_per_group=1)
    heard: list[str] = []
    two = GBDTTrainer(spread(config)).fit(
        *sets,
        progress=lambda _: heard.extend(listening(pids_of(two_workers))),
    )
    assert set(heard) == {"127.0.0.1"}
    for answers in lent.answers["end_segment"]:
        assert len({digest for _, digest in answers}) == 1  # all ranks have the same trees
    assert GBDTTrainer(spread(config)).fit(*sets).model.trees == two.model.trees
    one = GBDTTrainer(config).fit(*sets)
    assert two.model.columns.to_mapping() == one.model.columns.to_mapping()
    batch = sets[1].read()
    # Sums of histograms are rounded in another order.
    np.testing.assert_allclose(two.model.score(batch), one.model.score(batch), atol=1e-4)


def test_two_workers_are_as_good_as_one(
    sets: Sets, small: GBDTConfig, two_workers: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(small, rounds=30)
    one = GBDTTrainer(config).fit(*sets)
    monkeypatch.setattr(driver, "_make_group", lambda config: Lent(two_workers))
    two = GBDTTrainer(spread(config)).fit(*sets)
    best = [max(entry["validation_auc"] for entry in run.history) for run in (one, two)]
    assert best[1] == pytest.approx(best[0], abs=0.015)


def test_a_worker_that_dies_ends_the_run_and_leaves_no_process(
    sets: Sets, small: GBDTConfig, two_workers: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_make_group", lambda config: two_workers)
    pids = pids_of(two_workers)

    def kill(report: GBDTProgress) -> None:
        os.kill(pids[1], signal.SIGKILL)

    with pytest.raises(ClusterError, match="died"):
        GBDTTrainer(spread(replace(small, rounds=500))).fit(*sets, progress=kill)
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def pids_of(group: WorkerGroup) -> list[int]:
    return [worker.pid for worker in group.workers]


def listening(pids: list[int]) -> list[str]:
    """Return where processes listen: LightGBM no longer, once its workers are linked."""
    connections = [c for pid in pids for c in psutil.Process(pid).net_connections("inet")]
    return [c.laddr.ip.split(":")[-1] for c in connections if c.status == psutil.CONN_LISTEN]


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
