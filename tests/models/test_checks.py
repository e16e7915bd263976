"""Every model passes the one suite, and the suite catches a model that breaks a promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from weiml.data import write_batches
from weiml.features import Batch
from weiml.models import MODELS, LogisticRegression, LogisticRegressionConfig, model_config
from weiml.models.checks import CHECKS, check_model, example_batch
from weiml.models.trees import GBDTConfig, GBDTTrainer

IMAGES = {"height": 8, "width": 6, "channels": 2, "classes": ["a", "b", "c"], "lr": 0.01}
# Small forms of the models; what is left out has its defaults.
_HISTORY = {"sequences": ["history"], "targets": ["item"], "max_length": 4}
_TASKS = {"tasks": ["click", "buy"], "tower": [8], "lr": 0.01}
SMALL: dict[str, dict[str, Any]] = {
    "autoint": {"num_attention_layers": 2, "attention_dim": 8, "hidden": [16, 8], "lr": 0.01},
    "bst": {**_HISTORY, "hidden": [16, 8], "lr": 0.01},
    "cnn": {**IMAGES, "widths": [4, 8], "kernel": 3, "hidden": [16], "shift": 1, "flip": True},
    "dcn_v2": {"num_cross_layers": 2, "hidden": [16, 8], "lr": 0.01},
    "deepfm": {"hidden": [16, 8], "lr": 0.01},
    "dien": {**_HISTORY, "hidden": [16, 8], "lr": 0.01},
    "din": {**_HISTORY, "hidden": [16, 8], "attention_hidden": [8], "lr": 0.01},
    "dnn": {"hidden": [16, 8], "lr": 0.01},
    "dpn": {
        **IMAGES,
        **{"stem_width": 8, "blocks": [1, 1], "residual_width": 8, "increments": [2, 4]},
        **{"group_width": 8, "groups": 2},
    },
    "esmm": _TASKS,
    "ffm": {"embedding_dim": 2},
    "fibinet": {"hidden": [16, 8], "lr": 0.01},
    "final_mlp": {"hidden": [16, 8], "second_hidden": [8], "num_heads": 2, "lr": 0.01},
    "fm": {"embedding_dim": 4},
    "gbdt_lr": {},
    "lr": {},
    "masknet": {"blocks": [8, 8], "hidden": [16, 8], "lr": 0.01},
    "max_norm_dnn": {"embedding_dim": 8, "hidden": [8], "lr": 0.01},
    "mmoe": {**_TASKS, "experts": 2, "hidden": [16, 8]},
    "ple": {**_TASKS, "shared_experts": 1, "task_experts": 1, "hidden": [16, 8]},
    "pnn": {"product": "both", "hidden": [16, 8], "lr": 0.01},
    "poly2": {},
    "resnet": {**IMAGES, "stem_width": 4, "blocks": [1, 1], "dropout": 0.1},
    "shared_bottom": {**_TASKS, "hidden": [16]},
    "svm": {},
    "two_tower": {
        "user_slots": ["user", "history"],
        "item_slots": ["item", "tags"],
        "item_dense": ["price"],
        "hidden": [16],
        "frequency_cells": 1024,
        "lr": 0.01,
    },
    "wide_deep": {"hidden": [16, 8], "lr": 0.01},
    "xdeepfm": {"cin": [6, 4], "hidden": [16, 8], "lr": 0.01},
}


# Keras in a process of its own (tests/models/keras); graphs are not trained (tests/models/onnx).
APART = {"keras_wide_deep", "onnx"}


def test_every_model_is_checked() -> None:
    assert set(SMALL) | APART == set(MODELS)


NOT_SO = {
    # A saved model holds its trees; its configuration names no folder any more.
    ("gbdt_lr", "the_configuration_is_plain_data"),
}


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder of trees for the examples of the checks."""
    folder = tmp_path_factory.mktemp("checks")
    batch = example_batch(2000)
    clicks = replace(batch, labels=np.ascontiguousarray(batch.labels[:, :1]))
    train = write_batches([clicks], folder / "set")
    config = GBDTConfig(rounds=5, num_leaves=8)
    GBDTTrainer(config).fit(train).model.save(folder / "trees")
    return str(folder / "trees")


@pytest.mark.parametrize("check", sorted(CHECKS))
@pytest.mark.parametrize("name", sorted(SMALL))
def test_model(name: str, check: str, request: pytest.FixtureRequest) -> None:
    if (name, check) in NOT_SO:
        return
    table = {"name": name, **SMALL[name]}
    if name == "gbdt_lr":
        table["trees"] = request.getfixturevalue("trees")
    CHECKS[check](model_config(table))


class Forgetful(LogisticRegression):
    """Scores that depend on who else is in the batch."""

    def scores(self, batch: Batch, rows: Any) -> np.ndarray:
        scores = super().scores(batch, rows)
        return np.asarray(scores * scores.mean())


def test_a_model_that_breaks_its_contract_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "lr", Forgetful)
    with pytest.raises(AssertionError, match="'scores_do_not_depend_on_the_batch'"):
        check_model(LogisticRegressionConfig())


def test_the_examples_have_what_models_read() -> None:
    batch = example_batch(300, values=True)
    batch.validate()
    lengths = np.diff(batch.offsets).reshape(300, 4)
    assert lengths.min(0).tolist() == [1, 1, 0, 0]
    assert lengths.max(0).tolist() == [1, 1, 3, 5]
    assert (batch.labels[:, 1] <= batch.labels[:, 0]).all()
