"""The predictor: equal to the model on the server, and kept equal by deltas."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from tests.models.conftest import make_batch
from tests.models.test_folder import fitted, trained
from weiml.errors import DataError
from weiml.models import DENSE_VECTOR, ModelFolder, Predictor, Rows, pulled, save_model
from weiml.ps import Cut, Delta, unique_keys

BATCH = make_batch(200, 50)


@pytest.fixture(params=["lr", "wide_deep"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    return save_model(tmp_path / "m", *trained(name)).path


def test_scores_equal_those_by_the_servers_rows(name: str, folder: Path) -> None:
    model, server = trained(name)
    client = server.client()
    batch = make_batch(64, 1)  # seen in training: every key has its row
    rows = {}
    for table, keys in model.keys(batch).items():
        distinct, positions = unique_keys(keys)
        rows[table] = Rows(pulled(client, client.pull(table, distinct)), positions)
    expected = model.scores(batch, rows)[:, 0]
    scores = Predictor.load(folder).score(batch)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, expected)


def test_scores_do_not_depend_on_the_batch_or_the_labels(folder: Path) -> None:
    predictor = Predictor.load(folder)
    together = predictor.score(BATCH)
    alone = np.concatenate([predictor.score(BATCH.slice(i, i + 1)) for i in range(200)])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert predictor.score(BATCH.slice(0, 0)).shape == (0,)


def test_unknown_keys_change_nothing(folder: Path) -> None:
    predictor = Predictor.load(folder)
    batch = make_batch(30, 7)
    unknown = batch.keys.copy()
    users = np.arange(30) * 3
    unknown[batch.offsets[users]] += np.uint64(10**15)
    strange = type(batch)(**{**batch.__dict__, "keys": unknown})
    stranger = type(batch)(
        **{**batch.__dict__, "keys": np.where(unknown > 10**14, unknown + np.uint64(7), unknown)}
    )
    np.testing.assert_array_equal(predictor.score(strange), predictor.score(stranger))
    assert not np.array_equal(predictor.score(strange), predictor.score(batch))


def test_deltas_bring_rows_new_rows_and_the_dense_part(name: str, folder: Path) -> None:
    model, server = trained(name)
    if len(model.dense_vector()):
        server.create_vector(DENSE_VECTOR, model.dense_vector())
    predictor = Predictor.load(folder)
    first, before = predictor.version, predictor.score(BATCH)
    cut = server.cut
    client = server.client()
    for seed in range(60, 64):
        old = model.dense_vector()
        step = model.step(client, make_batch(100, seed, users=60))
        with contextlib.suppress(StopIteration):
            step.send(next(step))
        if len(old):
            client.push_vector(DENSE_VECTOR, model.dense_vector() - old)
    delta = client.delta(cut)
    rows = predictor.num_rows
    predictor.apply_delta(delta)
    assert predictor.num_rows > rows
    assert predictor.sequence == server.sequence
    assert predictor.version.split(".")[0] == first.split(".")[0]
    assert predictor.version != first
    fresh = Predictor(model, client.delta(Cut.zero()).tables)
    np.testing.assert_allclose(predictor.score(BATCH), fresh.score(BATCH), atol=1e-6)
    assert np.abs(predictor.score(BATCH) - before).max() > 1e-4


def test_rows_that_are_gone_count_as_zeros(name: str, folder: Path) -> None:
    predictor = Predictor.load(folder)
    tables = [config.name for config in predictor.model.tables()]
    keys = np.unique(predictor.model.keys(BATCH)[tables[0]])
    empty = {
        config.name: (np.empty(0, np.uint64), np.empty((0, config.dim), np.float32))
        for config in predictor.model.tables()
    }
    bare = Predictor(predictor.model, empty).score(BATCH)
    before = predictor.score(BATCH)
    assert np.abs(before - bare).max() > 1e-4
    gone = Delta(
        since=Cut.zero(),
        cut=Cut((10**6,)),
        tables=empty,
        vectors={},
        deleted=dict.fromkeys(tables, keys),
    )
    predictor.apply_delta(gone)
    np.testing.assert_allclose(predictor.score(BATCH), bare, atol=1e-6)
    other = Predictor.load(folder)
    other.apply_delta(Delta(since=Cut.zero(), cut=gone.cut, tables=empty, vectors={}, full=True))
    np.testing.assert_allclose(other.score(BATCH), bare, atol=1e-6)


def test_a_delta_of_another_model_changes_nothing(name: str, folder: Path) -> None:
    predictor = Predictor.load(folder)
    before, version = predictor.score(BATCH), predictor.version
    table = predictor.model.tables()[0].name
    keys = np.array([5], np.uint64)
    wrong = Delta(
        since=Cut.zero(),
        cut=Cut((10**6,)),
        tables={table: (keys, np.ones((1, 99), np.float32))},
        vectors={},
    )
    with pytest.raises(DataError, match=f"table '{table}' has rows of"):
        predictor.apply_delta(wrong)
    other = Delta(
        since=Cut.zero(),
        cut=Cut((10**6,)),
        tables={},
        vectors={DENSE_VECTOR: np.ones(3, np.float32)},
    )
    with pytest.raises(DataError):
        predictor.apply_delta(other)
    np.testing.assert_array_equal(predictor.score(BATCH), before)
    assert predictor.version == version


def test_a_model_without_encoder_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match="saved without an encoder"):
        _ = Predictor.load(folder).encoder


def test_scores_are_calibrated_and_deltas_keep_it(folder: Path, tmp_path: Path, name: str) -> None:
    raw = Predictor.load(folder)
    calibrated = Predictor.load(ModelFolder.open(folder).calibrated(tmp_path / "c", fitted()).path)
    assert raw.calibration is None
    assert calibrated.calibration == fitted()
    before = raw.score(BATCH)
    np.testing.assert_array_equal(calibrated.score(BATCH), fitted()(before))
    _, server = trained(name)
    with contextlib.closing(server):
        client = server.client()
        cut = server.cut
        for table, keys in raw.model.keys(BATCH).items():
            distinct = unique_keys(keys)[0]
            width = pulled(client, client.pull(table, distinct)).shape[1]
            pushed = np.ones((len(distinct), width), np.float32)
            client.wait(client.push(table, distinct, pushed))
        delta = client.delta(cut)
    for predictor in (raw, calibrated):
        predictor.apply_delta(delta)
    assert not np.array_equal(raw.score(BATCH), before)
    np.testing.assert_array_equal(calibrated.score(BATCH), fitted()(raw.score(BATCH)))
