"""GBDT + LR: it beats LR where features interact, and is saved and served whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.data import BatchDataset
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, Cross
from weiml.models import Columns, ModelFolder, Predictor, auc, build_model, save_model
from weiml.models.base import Model
from weiml.models.trees import GBDTConfig, GBDTLogisticRegressionConfig, GBDTTrainer, LeafEncoder
from weiml.ps import Cut, EmbeddedParameterServer

Sets = tuple[BatchDataset, BatchDataset]


@pytest.fixture(scope="module")
def trees(sets: Sets, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gbdt") / "model"
    config = GBDTConfig(rounds=30, learning_rate=0.2, num_leaves=8)
    GBDTTrainer(config).fit(sets[0]).model.save(folder)
    return str(folder)


def without_gaps(batch: Batch) -> Batch:
    return replace(batch, dense=np.nan_to_num(batch.dense))


def train(model: Model, server: EmbeddedParameterServer, batches: list[Batch]) -> None:
    server.create_table(*model.tables())
    client = server.client(0)
    for batch in batches:
        for _ in model.step(client, batch):
            pass
        client.wait(client.tick())


def fitted(
    name: str, config: dict[str, Any], batches: list[Batch], folder: Path | None = None
) -> Predictor:
    model = build_model(name, config, Columns.of(batches[0]))
    with EmbeddedParameterServer() as server:
        train(model, server, batches)
        if folder is not None:
            save_model(folder, model, server)
        return Predictor(model, server.client().delta(Cut.zero()).tables)


@pytest.mark.parametrize("only_leaves", [False, True])
def test_it_beats_logistic_regression_where_features_interact(
    sets: Sets, trees: str, only_leaves: bool
) -> None:
    batches = [without_gaps(b) for b in sets[0].iter_batches(512)]
    held = without_gaps(sets[1].read())
    scores = [
        fitted(name, config, batches).score(held)
        for name, config in (
            ("lr", {}),
            ("gbdt_lr", {"trees": trees, "only_leaves": only_leaves}),
        )
    ]
    plain, stacked = (auc(held.labels[:, 0], s, held.weights) for s in scores)
    assert plain < 0.72
    assert stacked > plain + 0.08


def test_it_is_logistic_regression_on_the_extended_batches(sets: Sets, trees: str) -> None:
    batches = [without_gaps(b) for b in sets[0].iter_batches(512)]
    leaves = LeafEncoder.of_folder(trees)
    cross = {"crosses": [{"name": "both", "of": ["city", "tags"]}]}
    predictor = fitted("gbdt_lr", {"trees": trees, **cross}, batches)
    plain = fitted("lr", cross, [leaves.with_leaves(b) for b in batches])
    held = without_gaps(sets[1].read())
    np.testing.assert_array_equal(predictor.score(held), plain.score(leaves.with_leaves(held)))


def test_gaps_do_not_matter_with_leaves_alone(sets: Sets, trees: str) -> None:
    predictor = fitted("gbdt_lr", {"trees": trees, "only_leaves": True}, [sets[0].read()])
    assert np.isnan(sets[1].read().dense).any()
    assert np.isfinite(predictor.score(sets[1].read())).all()


def test_a_saved_model_holds_its_trees(sets: Sets, trees: str, tmp_path: Path) -> None:
    moved = shutil.copytree(trees, tmp_path / "trees")
    batch = without_gaps(sets[1].read())
    config = {"trees": str(moved)}
    before = fitted("gbdt_lr", config, [batch], tmp_path / "model")
    shutil.rmtree(moved)
    after = Predictor.load(tmp_path / "model")
    np.testing.assert_array_equal(after.score(batch), before.score(batch))
    saved = ModelFolder.open(tmp_path / "model")
    model = saved.model(for_training=True)
    with EmbeddedParameterServer() as server:  # and goes on learning
        server.load(str(saved.server_state))
        train(model, server, [batch])
    text = (tmp_path / "model" / "dense.safetensors").read_bytes()
    (tmp_path / "model" / "dense.safetensors").write_bytes(text[:-5] + b"12345")
    with pytest.raises(DataError, match="damaged"):
        Predictor.load(tmp_path / "model")


def test_two_models_of_other_trees_have_other_ids(sets: Sets, trees: str, tmp_path: Path) -> None:
    batch = without_gaps(sets[1].read())
    other = tmp_path / "other"
    GBDTTrainer(GBDTConfig(rounds=3)).fit(sets[0]).model.save(other)
    for i, folder in enumerate((trees, trees, str(other))):
        fitted("gbdt_lr", {"trees": folder}, [batch], tmp_path / str(i))
    ids = [ModelFolder.open(tmp_path / str(i)).snapshot for i in range(3)]
    assert ids[0] == ids[1] != ids[2]


def test_what_does_not_fit_is_told(
    sets: Sets, trees: str, examples_of: Callable[..., Batch]
) -> None:
    batch = examples_of(5)
    with pytest.raises(ConfigError, match="set `trees`"):
        build_model("gbdt_lr", {}, Columns.of(batch)).keys(batch)
    with pytest.raises(DataError, match="not a model folder"):
        build_model("gbdt_lr", {"trees": "nowhere"}, Columns.of(batch)).keys(batch)
    other = replace(batch, slots=("city", "words"))
    with pytest.raises(DataError, match="same encoder"):
        build_model("gbdt_lr", {"trees": trees}, Columns.of(other)).keys(other)
    crosses = (Cross("both", of=("city", "tags")),)
    with pytest.raises(ConfigError, match="only_leaves"):
        GBDTLogisticRegressionConfig(only_leaves=True, crosses=crosses)
