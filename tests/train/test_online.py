"""Learning online: the server gets all of it, and serving can follow by deltas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.conftest import make_batch
from tests.train.conftest import Sets
from weiml.config import from_mapping
from weiml.errors import ConfigError, DataError
from weiml.models import DENSE_VECTOR, Predictor, auc
from weiml.ps import EmbeddedParameterServer, ParameterServer, RayParameterServer
from weiml.train import OnlineTrainer, ProgressiveMetrics, TrainConfig, Trainer


@pytest.fixture(params=["lr", "wide_deep"])
def folder(request: pytest.FixtureRequest, sets: Sets, tmp_path: Path) -> Path:
    small = {"hidden": [16], "embedding_dim": 4, "wide": {"alpha": 0.5}}
    values = {"model": request.param, "epochs": 1, "wide_deep": small, "batch_size": 128}
    result = Trainer(from_mapping(TrainConfig, values)).fit(sets.train)
    return result.save(tmp_path / "model").path


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


def test_both_transports_learn_alike(folder: Path, ray_session: None) -> None:
    test = make_batch(300, 998)
    with EmbeddedParameterServer() as server:
        _, embedded = follow(folder, server)
    with RayParameterServer.create(num_shards=2, name="weiml-test-online") as server:
        _, remote = follow(folder, server)
    np.testing.assert_array_equal(embedded.score(test), remote.score(test))


def test_two_learners_share_the_dense_part(folder: Path) -> None:
    with EmbeddedParameterServer() as server:
        first = OnlineTrainer(folder, server)
        if not len(first.model.dense_vector()):
            pytest.skip("a model without a dense part")
        client = server.client()
        start = client.wait(client.pull_vector(DENSE_VECTOR))
        first.learn(make_batch(50, 1))
        after = client.wait(client.pull_vector(DENSE_VECTOR))
        assert start is not None
        assert after is not None
        assert not np.array_equal(start, after)
        np.testing.assert_allclose(after, first.model.dense_vector(), atol=1e-6)


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
