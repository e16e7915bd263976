"""Runs that diverge stop, and say where their examples are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.conftest import make_batch
from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.data import BatchDataset, write_batches
from weiml.errors import DivergedError
from weiml.models import Columns, StepResult, build_model
from weiml.train import TrainConfig, Trainer
from weiml.train.guard import LossGuard, whereabouts


def model() -> Any:
    return build_model("lr", {}, Columns.of(make_batch(1)))


def step(guard: LossGuard, loss: float, examples: int = 100) -> None:
    guard.check(StepResult(examples, examples, loss * examples), model(), "step 7", lambda: "there")


def test_three_steps_far_above_the_mean_are_an_explosion() -> None:
    guard = LossGuard(5.0, 100)
    for _ in range(12):
        step(guard, 0.5)
    step(guard, 4.0)
    step(guard, 0.6)  # it came back
    step(guard, 4.0)
    step(guard, 4.0)
    with pytest.raises(DivergedError, match=r"step 7: the loss is 4, 3 steps in a row .* there"):
        step(guard, 4.0)


def test_it_goes_on_from_its_state() -> None:
    guard, other = LossGuard(5.0, 100), LossGuard(5.0, 100)
    for _ in range(12):
        step(guard, 0.5)
    step(guard, 4.0)
    step(guard, 4.0)
    other.state = guard.state
    with pytest.raises(DivergedError):
        step(other, 4.0)


def test_what_proves_nothing_stops_nothing() -> None:
    guard = LossGuard(5.0, 100)
    for loss in (50.0, 20.0, 9.0, 4.0, 0.6):  # at the beginning anything may be
        step(guard, loss)
    for _ in range(9):
        step(guard, 0.5)
    for _ in range(5):
        step(guard, 500.0, examples=20)  # the ends of epochs
    careless = LossGuard(0.0, 100)
    for loss in [0.5] * 12 + [500.0] * 5:
        step(careless, loss)
    with pytest.raises(DivergedError, match="the loss is nan"):
        step(careless, float("nan"))


@pytest.mark.parametrize("split", ["ranges", "steps"])
@pytest.mark.parametrize("seed", [None, 3])
def test_examples_are_found_in_their_files(tmp_path: Path, seed: int | None, split: str) -> None:
    batches = [
        replace(make_batch(50, part), items=np.full(50, part, np.uint64)) for part in range(4)
    ]
    for part, batch in enumerate(batches):
        batch.dense[:, 0] = 100 * part + np.arange(50)
    write_batches(batches, tmp_path / "set", examples_per_part=50)
    dataset = BatchDataset.open(tmp_path / "set")
    order = {"seed": seed, "epoch": 2, "worker": 1, "num_workers": 2, "split": split}
    third = list(dataset.iter_batches(20, **order))[3]  # type: ignore[arg-type]
    found = dataset.locate(60, 80, 20, **order)  # type: ignore[arg-type]
    files = sorted((tmp_path / "set").glob("*.arrow"))
    told = sorted(100 * files.index(path) + row for path, rows in found for row in rows)
    assert told == sorted(third.dense[:, 0].astype(int).tolist())
    if split == "ranges":
        del order["split"]
        said = whereabouts(dataset, 60, 80, batch_size=20, **order)  # type: ignore[arg-type]
        assert str(found[0][0]) in said


def test_a_run_says_which_rows_and_what_to_go_back_to(sets: Sets, tmp_path: Path) -> None:
    wild = {"name": "dnn", "hidden": [8], "optimizer": "sgd", "lr": 1e20}
    fields = {"model": wild, "batch_size": 20, "threads": 1, "seed": 3, "epochs": 1}
    config = from_mapping(TrainConfig, fields | {"checkpoint_steps": 1})
    with pytest.raises(
        DivergedError, match=r"epoch 1, step \d: .*(loss is nan|gradients)"
    ) as error:
        Trainer(config).fit(sets.train, checkpoints=tmp_path / "checkpoints")
    text = str(error.value)
    step = int(text.split("step ")[1].split(":")[0])
    ((path, rows),) = sets.train.locate(20 * step - 20, 20 * step, 20, seed=3)
    assert f"{path} rows {', '.join(map(str, sorted(rows)))}" in text
    assert f"step-{step - 1:08d}, at step {step - 1}" in text
    with pytest.raises(DivergedError, match="There is no checkpoint to go back to"):
        Trainer(config).fit(sets.train)
