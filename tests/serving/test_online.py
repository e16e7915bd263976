"""Online learning against a live endpoint: versions rise, replicas stay, learning helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weiml.errors import ClusterError, ConfigError, DataError
from weiml.models import Predictor, auc, evaluate_scores
from weiml.ps import EmbeddedParameterServer
from weiml.serving import Client, Endpoint
from weiml.serving.online import OnlineLearner, ReplayConfig, replay
from weiml.train import score_dataset

CONFIG = ReplayConfig(chunk_size=200, batch_size=50)


@pytest.fixture
def fresh(endpoint: Endpoint) -> Endpoint:
    """The endpoint with all replicas back at their snapshots."""
    endpoint.reset()
    return endpoint


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_replay_learns_and_reaches_all_replicas(
    fresh: Endpoint, feed: Any, model: str, tmp_path: Path
) -> None:
    seen: list[tuple[float, float]] = []
    with EmbeddedParameterServer(2) as server:
        result = replay(
            fresh,
            model,
            feed.models[model],
            server,
            feed.test,
            CONFIG,
            progress=lambda text, done, total: seen.append((done, total)),
        )
    summary, events = result.summary, result.events
    n = feed.test.num_rows
    assert seen == [(done, n) for done in (200, 400, 600, 800, 1000)]
    assert summary["num_events"] == events.num_rows == n
    assert len(summary["versions"]) == len(summary["curve"]) == 5
    assert len(summary["replicas"]) == 2
    assert summary["first_chunk_max_difference"] <= 1e-5
    assert 0 < summary["freshness_ms"]["p50"] <= summary["freshness_ms"]["max"]
    # One version scores a chunk, and versions only rise.
    sequences = events["sequence"].to_numpy()
    assert (np.diff(sequences) >= 0).all()
    assert sequences.tolist() == sorted(np.repeat(np.arange(5), 200).tolist())
    numbers = [int(version.split(".")[1]) for version in summary["versions"]]
    assert numbers == sorted(set(numbers))
    # The frozen model is the saved one on the same features; online starts there and moves.
    predictor = Predictor.load(feed.models[model])
    test = predictor.encoder.encode(feed.test.sort_by("timestamp"))
    frozen = score_dataset(predictor, test)
    np.testing.assert_allclose(events["frozen_score"].to_numpy(), frozen, atol=1e-6)
    assert np.abs(events["online_score"].to_numpy() - frozen)[-200:].max() > 1e-3
    labels = test.labels[:, 0]
    assert summary["frozen"]["auc"] == pytest.approx(auc(labels, frozen), abs=1e-6)
    online = evaluate_scores(labels, events["online_score"].to_numpy(), test.groups)
    assert summary["online"]["log_loss"] == pytest.approx(online["log_loss"])
    assert summary["curve"][-1]["online_auc"] == pytest.approx(summary["online"]["auc"])
    result.save(tmp_path)
    assert json.loads((tmp_path / "replay.json").read_text())["num_events"] == n
    assert pq.read_table(tmp_path / "replay.parquet").equals(events)


def test_learning_moves_scores_towards_labels(fresh: Endpoint, feed: Any) -> None:
    """Everybody suddenly likes everything: after learning, served scores say so."""
    rows = feed.test.slice(0, 400)
    encoder = Predictor.load(feed.models["lr"]).encoder
    ones = rows.set_column(
        rows.column_names.index("label"), "label", pa.array(np.ones(400, np.float32))
    )
    user, now = rows["user_id"][0].as_py(), 900_000_000
    with EmbeddedParameterServer(1) as server, Client(fresh.url, model="lr") as client:
        learner = OnlineLearner(fresh, "lr", feed.models["lr"], server, CONFIG)
        before = client.score(user, list(range(1, 31)), timestamp=now)
        for number in (1, 2, 3):
            learned = learner.learn(encoder.encode(ones))
            assert learned["sequence"] == number
            assert learned["rows"] > 0
            assert len(learned["replicas"]) == 2
        after = client.score(user, list(range(1, 31)), timestamp=now)
    assert after.parameters["sequence"] == 3
    assert after.outputs["score"].mean() > before.outputs["score"].mean() + 0.1


def test_an_answer_of_an_unexpected_version_is_an_error(
    fresh: Endpoint, feed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Endpoint, "status", lambda self: {"sequence": 7}
    )  # as if all had confirmed 7
    with (
        EmbeddedParameterServer(1) as server,
        pytest.raises(ClusterError, match="answered at update 0, though all replicas"),
    ):
        replay(fresh, "lr", feed.models["lr"], server, feed.test, CONFIG)


def test_bad_configurations_and_data(fresh: Endpoint, feed: Any) -> None:
    with pytest.raises(ConfigError, match="chunk_size must be at least 1, got 0"):
        ReplayConfig(chunk_size=0)
    with pytest.raises(ConfigError, match="max_events must be at least 1 or None, got 0"):
        ReplayConfig(max_events=0)
    with pytest.raises(ConfigError, match="deadline_s must be above 0"):
        ReplayConfig(deadline_s=0)
    with EmbeddedParameterServer(1) as server, pytest.raises(DataError, match="no example"):
        replay(fresh, "lr", feed.models["lr"], server, feed.test.slice(0, 0), CONFIG)
