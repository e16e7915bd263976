"""Learning online: the server gets all of it, and serving can follow by deltas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.models.conftest import make_batch
from tests.models.test_folder import fitted
from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.errors import ConfigError, DataError
from weiml.models import DENSE_VECTOR, ModelFolder, Predictor, auc, pulled
from weiml.ps import EmbeddedParameterServer, ParameterServer, RayParameterServer
from weiml.train import OnlineTrainer, ProgressiveMetrics, TrainConfig, Trainer


def train(model: str, sets: Sets, folder: Path) -> Path:
    small = {"hidden": [16], "embedding_dim": 4, "linear": {"alpha": 0.5}}
    knobs = small if model == "wide_deep" else {}
    values = {"model": {"name": model, **knobs}, "epochs": 1, "batch_size": 128}
    return Trainer(from_mapping(TrainConfig, values)).fit(sets.train).save(folder).path


@pytest.fixture(params=["lr", "wide_deep"])
def folder(request: pytest.FixtureRequest, sets: Sets, tmp_path: Path) -> Path:
    return train(request.param, sets, tmp_path / "model")


@pytest.fixture(scope="module")
def remote_server(ray_session: None) -> Iterator[ParameterServer]:
    """One group for all models, since a learner begins by replacing what the server holds."""
    with RayParameterServer.create(num_shards=2, name="weiml-test-online") as server:
        yield server


def follow(folder: Path, server: ParameterServer) -> tuple[OnlineTrainer, Predictor]:
    """Learn a changed world online, with a predictor that follows by deltas only."""
    trainer = OnlineTrainer(folder, server)
    predictor = Predictor.load(folder)
    cut, client = server.cut, server.client()
    for seed in range(100, 130):
        batch = make_batch(100, seed)
        batch.labels[:] = 1 - batch.labels
        told = trainer.learn(batch)
        assert told["examples"] == 100
        assert np.isfinite(told["loss"])
        delta = client.delta(cut)
        cut = delta.cut
        predictor.apply_delta(delta)
        assert predictor.sequence == told["sequence"] == server.sequence
    return trainer, predictor


def test_it_follows_a_changed_world_and_serving_follows_it(folder: Path, tmp_path: Path) -> None:
    test = make_batch(1000, 999)
    frozen = Predictor.load(folder)
    with EmbeddedParameterServer(2) as server:
        trainer, predictor = follow(folder, server)
        np.testing.assert_allclose(trainer.score(test), predictor.score(test), atol=1e-5)
        saved = trainer.save(tmp_path / "later", about={"from": trainer.version})
    assert auc(1 - test.labels, predictor.score(test)) > 0.6
    assert auc(test.labels, frozen.score(test)) > 0.6
    later = Predictor.load(saved.path)
    np.testing.assert_allclose(later.score(test), predictor.score(test), atol=1e-6)
    assert saved.manifest["about"] == {"from": frozen.version}


def test_both_transports_learn_alike(folder: Path, remote_server: ParameterServer) -> None:
    test = make_batch(300, 998)
    with EmbeddedParameterServer() as server:
        _, embedded = follow(folder, server)
    _, remote = follow(folder, remote_server)
    np.testing.assert_array_equal(embedded.score(test), remote.score(test))


def test_a_calibration_goes_along(folder: Path, tmp_path: Path) -> None:
    test = make_batch(300, 998)
    model = ModelFolder.open(folder).calibrated(tmp_path / "calibrated", fitted())
    with EmbeddedParameterServer() as server:
        trainer, predictor = follow(model.path, server)
        np.testing.assert_allclose(trainer.score(test), predictor.score(test), atol=1e-5)
        saved = trainer.save(tmp_path / "later")
    assert predictor.calibration == saved.calibration() == fitted()
    with EmbeddedParameterServer() as server:
        _, plain = follow(folder, server)
    np.testing.assert_array_equal(fitted()(plain.score(test)), predictor.score(test))


def test_the_dense_part_is_the_servers(sets: Sets, tmp_path: Path) -> None:
    folder = train("wide_deep", sets, tmp_path / "model")
    with EmbeddedParameterServer(2) as server:
        trainer = OnlineTrainer(folder, server)
        client = server.client()
        start = pulled(client, client.pull_vector(DENSE_VECTOR))
        trainer.learn(make_batch(50, 1))
        after = pulled(client, client.pull_vector(DENSE_VECTOR))
        assert not np.array_equal(start, after)
        np.testing.assert_allclose(after, trainer.model.dense_vector(), atol=1e-6)
        # What another learner adds is part of the next score.
        before = trainer.score(make_batch(20, 2))
        client.wait(client.push_vector(DENSE_VECTOR, np.ones_like(after)))
        assert np.abs(trainer.score(make_batch(20, 2)) - before).max() > 1e-3


def test_the_dense_optimizer_goes_on_slower_from_its_memory(sets: Sets, tmp_path: Path) -> None:
    folder = train("wide_deep", sets, tmp_path / "model")
    changes = []
    for scale in (1.0, 0.1):
        with EmbeddedParameterServer() as server:
            trainer = OnlineTrainer(folder, server, dense_lr_scale=scale)
            assert trainer.model.dense_state()["step"] == -(-2000 // 128)
            before = trainer.model.dense_vector()
            trainer.learn(make_batch(50, 1))
            changes.append(trainer.model.dense_vector() - before)
    # Adam's step is its learning rate times what its memory and the gradient say.
    np.testing.assert_allclose(changes[1], 0.1 * changes[0], atol=1e-6)
    assert np.abs(changes[0]).max() > 1e-4


def test_wrong_use_is_named(folder: Path, tmp_path: Path) -> None:
    with EmbeddedParameterServer() as server:
        with pytest.raises(ConfigError, match="scaled by -1"):
            OnlineTrainer(folder, server, dense_lr_scale=-1)
        with pytest.raises(DataError, match="not a model folder"):
            OnlineTrainer(tmp_path / "nothing", server)
        with pytest.raises(DataError, match="empty batch"):
            OnlineTrainer(folder, server).learn(make_batch(0))


def test_progressive_metrics(rng: np.random.Generator) -> None:
    scores = rng.random(1000)
    labels = (rng.random(1000) < scores).astype(np.float32)
    metrics = ProgressiveMetrics()
    assert metrics.summary()["examples"] == 0
    assert np.isnan(metrics.summary()["auc"])
    for start in range(0, 1000, 100):
        metrics.add(labels[start : start + 100, None], scores[start : start + 100])
    assert metrics.examples == 1000
    assert metrics.summary()["auc"] == auc(labels, scores)
    curve = metrics.curve(points=4)
    assert [point["examples"] for point in curve] == [250, 500, 750, 1000]
    assert curve[1]["auc"] == auc(labels[:500], scores[:500])
    with pytest.raises(DataError, match="3 labels cannot go with 2 scores"):
        metrics.add(np.zeros(3), np.zeros(2))
