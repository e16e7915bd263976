"""A trained model: its scores, its saved form, and what it says when that is damaged."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weiml.data import BatchDataset
from weiml.errors import DataError
from weiml.features import Batch, Categorical, FeatureEncoder, FeatureSpec
from weiml.models.trees import GBDT, GBDTConfig, GBDTTrainer

Sets = tuple[BatchDataset, BatchDataset]
FILES = ("model.json", "trees.txt", "columns.json", "encoder.json")


@pytest.fixture(scope="module")
def model(sets: Sets) -> GBDT:
    encoder = FeatureEncoder(FeatureSpec(features=(Categorical("city"),)))
    config = GBDTConfig(rounds=10, learning_rate=0.2, num_leaves=8)
    return GBDTTrainer(config, encoder).fit(*sets).model


def test_what_is_saved_and_loaded_scores_alike(model: GBDT, sets: Sets, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = GBDT.load(tmp_path / "model")
    batch = sets[1].read()
    np.testing.assert_array_equal(again.score(batch), model.score(batch))
    np.testing.assert_array_equal(again.leaves(batch), model.leaves(batch))
    assert again.version == model.version
    assert again.config == model.config
    assert again.about == model.about
    assert again.about["best_round"] == 10
    assert again.encoder.spec == model.encoder.spec
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(FILES)
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    with pytest.raises(DataError, match="not empty"):
        model.save(tmp_path / "model")


def test_scores_are_probabilities_that_do_not_depend_on_the_batch(model: GBDT, sets: Sets) -> None:
    batch = sets[1].read()
    scores = model.score(batch)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-model.log_odds(batch))), rtol=1e-6)
    parts = [model.score(batch.slice(i, i + 7)) for i in range(0, 70, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), scores[:70])
    assert model.score(batch.slice(0, 0)).shape == (0,)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).score(batch), scores)


def test_leaves_are_told_by_tree(model: GBDT, sets: Sets) -> None:
    leaves = model.leaves(sets[1].read())
    assert leaves.dtype == np.int32
    assert leaves.shape == (len(sets[1]), 10)
    assert leaves.min() == 0
    assert leaves.max() == 7


@pytest.mark.parametrize("name", FILES)
def test_damage_and_loss_name_the_file(model: GBDT, name: str, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    file = tmp_path / "model" / name
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=f"{name} is damaged"):
        GBDT.load(tmp_path / "model")
    file.unlink()
    with pytest.raises(DataError, match=name):
        GBDT.load(tmp_path / "model")


def test_other_models_and_formats_are_told(model: GBDT, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        GBDT.load(tmp_path / "model")
    manifest["model"]["name"] = "lr"
    file.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="'lr'"):
        GBDT.load(tmp_path / "model")


def test_another_batch_is_refused(model: GBDT, examples_of: Callable[..., Batch]) -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="own encoder"):
        model.score(replace(examples_of(3), dense_names=("x", "z")))


def test_scoring_needs_no_lightgbm(model: GBDT, sets: Sets, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    code = (
        "import sys; sys.modules['lightgbm'] = None\n"
        "from weiml.data import BatchDataset; from weiml.models.trees import GBDT\n"
        f"model = GBDT.load({str(tmp_path / 'model')!r})\n"
        f"print(model.score(BatchDataset.open({str(sets[1].folder)!r}).read())[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(float(model.score(sets[1].read())[0]))
