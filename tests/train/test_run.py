"""A run that was broken off goes on to the bit, and its steps are what they say."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.errors import ConfigError
from weiml.train import Callback, Checkpoints, Progress, TrainConfig, Trainer, TrainResult

MODELS: dict[str, dict[str, Any]] = {
    "lr": {"name": "lr"},
    "wide_deep": {"name": "wide_deep", "hidden": [8], "embedding_dim": 4, "dropout": 0.3},
    "normed": {"name": "dnn", "hidden": [8], "embedding_dim": 4, "batch_norm": True},
}


def config(model: str | dict[str, Any], **values: Any) -> TrainConfig:
    fields = {"batch_size": 100, "epochs": 3, "seed": 4, "threads": 1, "progress_steps": 3}
    quick = {"early_stopping_patience": 0, "checkpoint_steps": 4, "cpus_per_worker": 0.5}
    table = MODELS[model] if isinstance(model, str) else model
    return from_mapping(TrainConfig, {"model": table, **fields, **quick, **values})


class BreakOff(Callback):
    """Ends a run by an error, as a power cut would, after so many progress reports."""

    def __init__(self, reports: int) -> None:
        self._left = reports
        self.resumed: list[int] = []

    def on_resume(self, step: int, folder: Path) -> None:
        self.resumed.append(step)

    def on_progress(self, at: Progress) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def whole_epochs(result: TrainResult) -> set[int]:
    return {entry["steps"] for entry in result.history}


def content(result: TrainResult, sets: Sets) -> tuple[Any, ...]:
    timed = {"seconds", "examples_per_second"}
    history = [{k: v for k, v in entry.items() if k not in timed} for entry in result.history]
    losses = {point["step"]: point["examples"] for point in result.curve}
    scores = result.predictor().score(sets.validation.read()).tolist()
    # As text, since nothing equals a metric that is not defined.
    return json.dumps(history), losses[result.steps], result.best_epoch, result.steps, scores


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_run_that_was_broken_off_goes_on_to_the_bit(
    model: str, workers: int, sets: Sets, tmp_path: Path
) -> None:
    settings = config(model, num_workers=workers, first_batch_size=30)
    whole = Trainer(settings).fit(sets.train, sets.validation)
    breaks = np.random.default_rng(len(model) + workers).integers(3, 10, 2)
    resumed: list[int] = []
    for reports in breaks.tolist():
        breaking = BreakOff(reports)
        with contextlib.suppress(KeyboardInterrupt):
            Trainer(settings).fit(
                sets.train,
                sets.validation,
                checkpoints=tmp_path / "run",
                callbacks=[breaking],
            )
        resumed += breaking.resumed
    last = BreakOff(0)
    again = Trainer(settings).fit(
        sets.train, sets.validation, checkpoints=tmp_path / "run", callbacks=[last]
    )
    resumed += last.resumed
    assert len(resumed) == 2
    assert all(step % 4 == 0 or step in whole_epochs(whole) for step in resumed)
    assert any(step not in whole_epochs(whole) for step in resumed)  # in the middle of one
    assert content(again, sets) == content(whole, sets)
    assert again.version.split(".")[0] == whole.version.split(".")[0]


def test_a_run_that_is_done_is_not_trained_again(sets: Sets, tmp_path: Path) -> None:
    first = Trainer(config("lr")).fit(sets.train, checkpoints=tmp_path / "run")
    seen: list[Progress] = []
    again = Trainer(config("lr")).fit(
        sets.train, checkpoints=tmp_path / "run", progress=seen.append
    )
    assert not seen
    assert again.history == first.history
    longer = Trainer(config("lr", epochs=4)).fit(sets.train, checkpoints=tmp_path / "run")
    assert [entry["epoch"] for entry in longer.history] == [1, 2, 3, 4]


def test_checkpoints_of_other_runs_are_refused(sets: Sets, tmp_path: Path) -> None:
    Trainer(config("lr", epochs=1)).fit(sets.train, checkpoints=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"are of another run: batch_size differ \(100 there, 50"):
        Trainer(config("lr", batch_size=50)).fit(sets.train, checkpoints=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run: threads differ \(1 there, 2 here\)"):
        Trainer(config("lr", threads=2)).fit(sets.train, checkpoints=tmp_path / "run")
    with pytest.raises(ConfigError, match="training set of 2000 examples, this one has 600"):
        Trainer(config("lr", epochs=1)).fit(sets.validation, checkpoints=tmp_path / "run")


def test_more_epochs_stretch_some_schedules(sets: Sets, tmp_path: Path) -> None:
    falling = {"lr_schedule": {"name": "cosine"}}
    Trainer(config("wide_deep", epochs=1, **falling)).fit(sets.train, checkpoints=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"epochs differ \(1 there, 2 here\)"):
        Trainer(config("wide_deep", epochs=2, **falling)).fit(
            sets.train, checkpoints=tmp_path / "run"
        )


def test_only_whole_and_few_checkpoints_are_kept(sets: Sets, tmp_path: Path) -> None:
    written: list[Path] = []

    class Watch(Callback):
        def on_checkpoint(self, folder: Path) -> None:
            written.append(folder)
            shown = sorted(path.name for path in folder.parent.glob("step-*"))
            assert len(shown) <= 2
            assert shown[-1] == folder.name

    root = tmp_path / "run"
    Trainer(config("lr")).fit(sets.train, sets.validation, checkpoints=root, callbacks=[Watch()])
    assert [path.name for path in written[:3]] == [
        "step-00000004",
        "step-00000008",
        "step-00000012",
    ]
    assert len(list(root.glob("best-*"))) == 1
    assert not list(root.glob(".*"))
    latest = Checkpoints(root).latest()
    assert latest is not None
    assert latest.run["steps"] == 60
    assert json.loads((latest.path / "run.json").read_text())["best_epoch"] >= 1


def test_callbacks_end_a_run_which_can_go_on(sets: Sets, tmp_path: Path) -> None:
    class Enough(Callback):
        def on_progress(self, at: Progress) -> bool:
            return at.step >= 9

    root = tmp_path / "run"
    part = Trainer(config("wide_deep")).fit(sets.train, checkpoints=root, callbacks=[Enough()])
    assert part.steps < 20
    whole = Trainer(config("wide_deep")).fit(sets.train, checkpoints=root)
    expected = Trainer(config("wide_deep")).fit(sets.train)
    assert content(whole, sets) == content(expected, sets)


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_accumulated_batches_are_one_step(model: str, sets: Sets) -> None:
    """LR sees what the step's earlier batches did; networks sum gradients over the step."""
    results = [
        Trainer(config(model, epochs=1, batch_size=100 // parts, accumulate=parts)).fit(sets.train)
        for parts in (1, 2, 4)
    ]
    assert [result.steps for result in results] == [20, 20, 20]
    losses = [result.history[0]["train_loss"] for result in results]
    assert losses[1:] == pytest.approx([losses[0]] * 2, abs=0.02)
    if model == "lr":
        assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_accumulation_of_sgd_equals_the_large_batch(sets: Sets) -> None:
    table = {
        "name": "dnn",
        "hidden": [8],
        "embedding_dim": 4,
        "optimizer": "sgd",
        "lr": 0.1,
        "embedding": {"name": "sgd", "lr": 0.01},
        "multiplicity": "sum",
    }
    small, large = (
        Trainer(config(table, epochs=2, batch_size=100 // parts, accumulate=parts)).fit(sets.train)
        for parts in (4, 1)
    )
    batch = sets.validation.read()
    np.testing.assert_allclose(
        small.predictor().score(batch), large.predictor().score(batch), atol=1e-5
    )


@pytest.mark.parametrize("staleness", [0, 1, "asp"])
def test_the_dense_part_may_live_on_the_servers(staleness: Any, sets: Sets) -> None:
    settings = config("wide_deep", dense="servers", num_workers=2, staleness=staleness)
    result = Trainer(settings).fit(sets.train, sets.validation)
    group = Trainer(config("wide_deep", num_workers=2)).fit(sets.train, sets.validation)
    ours, theirs = (r.history[-1]["validation_auc"] for r in (result, group))
    assert ours > theirs - 0.03


def test_servers_and_group_agree_on_sgd(sets: Sets) -> None:
    table = {"name": "dnn", "hidden": [8], "embedding_dim": 4, "optimizer": "sgd", "lr": 0.1}
    scores = [
        Trainer(config(table, num_workers=2, dense=dense))
        .fit(sets.train)
        .predictor()
        .score(sets.validation.read())
        for dense in ("group", "servers")
    ]
    # Means of means: the workers' examples differ in weight.
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-2)


def test_the_learning_rate_follows_its_schedule(sets: Sets) -> None:
    still = {"name": "stairs", "at": [0.0], "by": 0.0}
    frozen = Trainer(config("wide_deep", lr_schedule=still, epochs=1)).fit(sets.train)
    moving = Trainer(config("wide_deep", epochs=1)).fit(sets.train)
    first, second = (r.predictor().model.dense_vector() for r in (frozen, moving))
    fresh = Trainer(config("wide_deep", lr_schedule=still, epochs=2)).fit(sets.train)
    np.testing.assert_array_equal(first, fresh.predictor().model.dense_vector())
    assert not np.array_equal(first, second)


def test_stages_are_traced(sets: Sets, tmp_path: Path) -> None:
    Trainer(config("wide_deep", epochs=1, num_workers=2)).fit(
        sets.train, trace=tmp_path / "trace.json"
    )
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {"read", "prepare", "pull", "compute", "push", "tick", "reduce"} == {
        span["name"] for span in spans
    }
    assert {span["pid"] for span in spans} == {0, 1}
    assert min(span["ts"] for span in spans) == 0
