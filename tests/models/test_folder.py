"""Saved models: whole or not at all, checked when read, equal content under an equal name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.models.conftest import make_batch
from weiml.errors import DataError, ParameterServerError
from weiml.features import Categorical, FeatureEncoder, FeatureSpec
from weiml.models import Columns, Model, ModelFolder, build_model, save_model
from weiml.models.calibration import FittedCalibration, Isotonic, TaskCalibrations
from weiml.ps import EmbeddedParameterServer

Trained = Callable[..., tuple[Model, EmbeddedParameterServer]]


def trained(name: str, num_shards: int = 1) -> tuple[Model, EmbeddedParameterServer]:
    batches = [make_batch(64, seed) for seed in range(3)]
    config = {"hidden": [8], "embedding_dim": 4} if name == "wide_deep" else {}
    model = build_model(name, config, Columns.of(batches[0]), seed=1)
    server = EmbeddedParameterServer(num_shards)
    for table in model.tables():
        server.create_table(table)
    client = server.client(0)
    for batch in batches:
        step = model.step(client, batch)
        try:
            step.send(next(step))
        except StopIteration:
            client.tick()
    return model, server


@pytest.fixture
def encoder() -> FeatureEncoder:
    spec = FeatureSpec(features=(Categorical("user"),))
    return FeatureEncoder(spec).fit(pa.table({"user": [1, 2]}))


@pytest.mark.parametrize("name", ["lr", "wide_deep"])
def test_all_of_a_model_comes_back(name: str, tmp_path: Path, encoder: FeatureEncoder) -> None:
    model, server = trained(name)
    saved = save_model(tmp_path / "m", model, server, encoder=encoder, about={"note": "first"})
    again = ModelFolder.open(tmp_path / "m")
    assert again.manifest["about"] == {"note": "first"}
    assert again.version == saved.version == f"{saved.snapshot}.{server.sequence}"
    assert again.encoder().spec == encoder.spec  # type: ignore[union-attr]
    loaded = again.model(for_training=True)
    assert loaded.config == model.config
    assert loaded.columns == model.columns
    np.testing.assert_array_equal(loaded.dense_vector(), model.dense_vector())
    for key, memory in model.dense_state().items():
        np.testing.assert_array_equal(loaded.dense_state()[key], memory)
    everything = server.client().delta(0).tables
    for table, (keys, weights) in again.tables().items():
        expected_keys, expected = everything[table]
        order = np.argsort(expected_keys)
        kept = expected[order].any(axis=1)
        np.testing.assert_array_equal(keys, expected_keys[order][kept])
        np.testing.assert_array_equal(weights, expected[order][kept])
    with EmbeddedParameterServer(2) as other:
        other.load(str(again.server_state))
        assert other.status()["rows"] == server.status()["rows"]


@pytest.mark.parametrize("name", ["lr", "wide_deep"])
def test_equal_models_have_equal_ids(name: str, tmp_path: Path) -> None:
    first = save_model(tmp_path / "a", *trained(name))
    second = save_model(tmp_path / "b", *trained(name, num_shards=3))
    assert first.snapshot == second.snapshot
    model, server = trained(name)
    client = server.client()
    table = model.tables()[0]
    client.wait(client.push(table.name, np.ones(1, np.uint64), np.ones((1, table.dim), np.float32)))
    assert save_model(tmp_path / "c", model, server).snapshot != first.snapshot


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    model, server = trained("lr")
    server.close()
    with pytest.raises(ParameterServerError):
        save_model(tmp_path / "m", model, server)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        save_model(tmp_path, *trained("lr"))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "file", ["tables/linear.arrow", "tables/embedding.arrow", "dense.safetensors"]
)
def test_damaged_and_missing_files_are_named(tmp_path: Path, file: str) -> None:
    save_model(tmp_path / "m", *trained("wide_deep"))
    target = tmp_path / "m" / file
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)

    def read() -> None:
        saved = ModelFolder.open(tmp_path / "m")
        saved.model()
        saved.tables()

    with pytest.raises(DataError, match=f"{file} is damaged"):
        read()
    target.unlink()
    with pytest.raises(DataError, match=f"lacks its file {file}"):
        read()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a model folder: it has no model\.json"):
        ModelFolder.open(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        ModelFolder.open(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        ModelFolder.open(tmp_path)


def fitted() -> FittedCalibration:
    rng = np.random.default_rng(4)
    scores = rng.random(400)
    return Isotonic(num_bins=8).fit(scores, (rng.random(400) < scores**3).astype(np.float64))


def test_a_calibration_is_saved_beside_the_model(tmp_path: Path) -> None:
    model, server = trained("lr")
    plain = save_model(tmp_path / "plain", model, server)
    assert plain.calibration() is None
    saved = save_model(tmp_path / "saved", model, server, calibration=fitted())
    assert saved.calibration() == fitted()
    copied = plain.calibrated(tmp_path / "copied", fitted())
    assert copied.calibration() == fitted()
    assert copied.snapshot == saved.snapshot != plain.snapshot
    assert copied.sequence == plain.sequence
    assert copied.calibrated(tmp_path / "without", None).manifest == plain.manifest
    with EmbeddedParameterServer() as other:
        other.load(str(copied.server_state))
        assert other.status()["rows"] == server.status()["rows"]


def test_a_calibration_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model, server = trained("lr")
    two = TaskCalibrations((fitted(), fitted()))
    with pytest.raises(DataError, match="a calibration of each, got one of 2"):
        save_model(tmp_path / "m", model, server, calibration=two)
    plain = save_model(tmp_path / "plain", model, server)
    with pytest.raises(DataError, match="got one of 2"):
        plain.calibrated(tmp_path / "m", two)
    with pytest.raises(DataError, match="not empty"):
        plain.calibrated(plain.path, fitted())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plain"]
    plain.calibrated(tmp_path / "m", fitted())
    with (tmp_path / "m" / "calibration.json").open("a") as file:
        file.write(" ")
    with pytest.raises(DataError, match=r"calibration.json is damaged"):
        ModelFolder.open(tmp_path / "m").calibration()
