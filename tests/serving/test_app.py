"""The endpoint over real HTTP with two replicas: answers, mistakes, updates, loss of the hub."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from weiml.data import FeatureView
from weiml.errors import ClusterError, ConfigError, ParameterServerError, RequestError
from weiml.models import Predictor
from weiml.ps import Cut, Delta
from weiml.serving import Client, Endpoint, FeedConfig, Servable, Tensor, deploy, rank_feeds
from weiml.serving.app import _Owned, check_port

NOW = 900_000_000
ITEMS = list(range(1, 41))


@pytest.fixture
def client(endpoint: Endpoint) -> Any:
    with Client(endpoint.url, model="wide_deep") as client:
        yield client


def until(condition: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.05)


def pids(endpoint: Endpoint) -> set[int]:
    return {replica["pid"] for replica in endpoint.status()["replicas"].values()}


def answering(client: Client, count: int, check: Callable[[Any], None]) -> None:
    """Ask until `count` different replicas have answered, checking each answer."""
    seen: set[str] = set()

    def ask() -> bool:
        result = client.score(7, [1, 2], timestamp=NOW)
        check(result)
        seen.add(result.parameters["replica"])
        return len(seen) >= count

    until(ask, f"answers from {count} replicas, got {seen}")


@pytest.mark.parametrize("model", ["lr", "wide_deep"])
def test_served_scores_equal_offline_scores(endpoint: Endpoint, feed: Any, model: str) -> None:
    predictor = Predictor.load(feed.models[model])
    view = FeatureView.load(feed.view)
    with Client(endpoint.url) as client:
        for user in (1, 7, 30, 10_000):
            served = client.score(user, ITEMS, timestamp=NOW, model=model)
            batch = predictor.encoder.encode(view.rows(user, ITEMS, NOW), labels=False)
            offline = predictor.score(batch)
            assert np.abs(served.outputs["score"] - offline).max() <= 1e-5
            assert served.model_version == predictor.version


def test_ranking_over_http(client: Client, feed: Any) -> None:
    local = Servable.load(feed.models, feed.view).rank("wide_deep", 7, ITEMS, NOW, top_k=5)
    result = client.rank(7, ITEMS, timestamp=NOW, top_k=5)
    assert result.outputs["item_id"].tolist() == local.item_ids.tolist()
    np.testing.assert_allclose(result.outputs["score"], local.scores, atol=1e-6)
    assert local.titles is not None
    assert [row["title"] for row in result.rows()] == local.titles.tolist()


def test_client_speaks_all_routes(endpoint: Endpoint, client: Client) -> None:
    assert client.metadata()["name"] == "wide_deep"
    assert client.stats("lr")["model_name"] == "lr"
    result = client.infer(
        [Tensor.of("user_id", [7]), Tensor.of("item_id", [1]), Tensor.of("user_rate", [0.5])],
        outputs=["item_id"],
        request_id="x",
    )
    assert (result.id, result.outputs["item_id"].tolist()) == ("x", [1])
    with Client(endpoint.url) as anonymous, pytest.raises(RequestError, match="lr, wide_deep"):
        anonymous.rank(7, [1])
    with pytest.raises(RequestError, match="answered 404: no model 'deep'"):
        client.rank(7, [1], model="deep")


def test_malformed_requests_never_kill_a_replica(endpoint: Endpoint) -> None:
    before = pids(endpoint)
    url = f"{endpoint.url}/v2/models/lr/infer"
    bodies = [
        b"",
        b"{",
        b"\xff\x00",
        b"[" * 50_000,
        b'{"inputs": [{"name": "user_id"}]}',
        b'{"inputs": [{"name": "item_id", "shape": [-1], "datatype": "INT64", "data": []}]}',
        json.dumps({"inputs": {}, "id": 1}).encode(),
    ]
    with httpx.Client(trust_env=False) as http:
        for body in bodies * 3:
            answer = http.post(url, content=body)
            assert answer.status_code == 400, answer.text
            assert set(answer.json()) == {"error"}
            assert answer.headers["content-type"] == "application/json"
        large = http.post(url, content=b" " * (endpoint.config.limits.max_body_bytes + 1))
        assert large.status_code == 413
        assert "limits.max_body_bytes" in large.json()["error"]
        assert http.get(f"{endpoint.url}/nothing").status_code == 404
        assert http.get(f"{endpoint.url}/v2/health/ready").json() == {"ready": True}
    assert pids(endpoint) == before
    assert len(before) == 2


def delta_for(feed: Any, model: str, total: int, weight: float) -> Delta:
    """Set the first table's rows of all keys of user 7's candidates to a weight."""
    predictor = Predictor.load(feed.models[model])
    rows = FeatureView.load(feed.view).rows(7, ITEMS, NOW)
    table = predictor.model.tables()[0]
    batch = predictor.encoder.encode(rows, labels=False)
    keys = np.unique(predictor.model.keys(batch)[table.name])
    values = np.full((len(keys), table.dim), weight, np.float32)
    return Delta(
        since=Cut.zero(), cut=Cut((total,)), tables={table.name: (keys, values)}, vectors={}
    )


def test_a_delta_reaches_all_replicas_without_a_restart(endpoint: Endpoint, feed: Any) -> None:
    before = pids(endpoint)
    local = Servable.load(feed.models, feed.view)
    snapshot = local.version("lr").split(".")[0]
    with Client(endpoint.url, model="lr") as client:
        for total, weight in ((50_001, 0.3), (50_002, -0.2)):
            delta = delta_for(feed, "lr", total, weight)
            sequence = endpoint.publish({"lr": delta})
            status = endpoint.wait_for(sequence)
            assert len(status["replicas"]) == 2
            local.apply_delta("lr", delta)
            expected = local.score("lr", 7, [1, 2], NOW).scores

            def check(
                result: Any, total: int = total, sequence: int = sequence, want: Any = expected
            ) -> None:
                assert result.model_version == f"{snapshot}.{total}"
                assert result.parameters["sequence"] == sequence
                np.testing.assert_allclose(result.outputs["score"], want, atol=1e-6)

            answering(client, 2, check)
    assert pids(endpoint) == before
    stats = httpx.get(f"{endpoint.url}/v2/models/lr/stats", trust_env=False).json()
    assert stats["sequence"] == sequence
    assert stats["delivery_ms"] > 0
    assert stats["staleness_s"] < 60


def test_feeds_that_are_not_the_snapshots_are_refused(endpoint: Endpoint, feed: Any) -> None:
    """`rank_feeds` compares with the saved model: after updates it must not agree."""
    examples = pq.read_table(feed.examples)
    endpoint.reset()
    feeds = rank_feeds(endpoint, "lr", feed.models["lr"], examples, FeedConfig(users=2, top_k=3))
    assert feeds.max_difference <= 1e-5
    assert feeds.to_text(items=1).count("\n") == 3
    endpoint.wait_for(endpoint.publish({"lr": delta_for(feed, "lr", 50_003, 0.4)}))
    with pytest.raises(ClusterError, match="differ from offline ones by up to .* more than tol"):
        rank_feeds(endpoint, "lr", feed.models["lr"], examples)
    with pytest.raises(ConfigError, match="top_k must be at least 1, got 0"):
        FeedConfig(top_k=0)


def test_events_reach_all_replicas(endpoint: Endpoint, client: Client) -> None:
    before = client.score(8, [3], timestamp=NOW + 9).outputs["score"]
    events = [{"user_id": 8, "item_id": 3, "timestamp": NOW, "rating": 5}] * 30
    endpoint.wait_for(client.observe(events))
    seen: dict[str, float] = {}

    def ask() -> bool:
        result = client.score(8, [3], timestamp=NOW + 9)
        seen[result.parameters["replica"]] = float(result.outputs["score"][0])
        return len(seen) == 2

    until(ask, "answers from both replicas")
    assert len(set(seen.values())) == 1
    assert before[0] not in seen.values()
    with pytest.raises(RequestError, match="'rating' is missing"):
        client.observe([{"user_id": 8, "item_id": 3, "timestamp": NOW}])


def test_what_cannot_be_published_is_refused(endpoint: Endpoint, feed: Any) -> None:
    with pytest.raises(ParameterServerError, match="no model 'wide'; did you mean 'wide_deep'"):
        endpoint.publish({"wide": delta_for(feed, "lr", 1, 0.0)})
    with pytest.raises(ClusterError, match="not all replicas answer at update 999999"):
        endpoint.wait_for(999_999, timeout_s=0.2)


def test_a_taken_port_is_said_before_anything_starts(feed: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"port {port} on 127.0.0.1 is in use: choose"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_hub_and_ray_end_although_serve_does_not(
    feed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.kill", ended.append)
    monkeypatch.setattr("ray.shutdown", lambda: ended.append("ray"))
    monkeypatch.setattr(Endpoint, "status", lambda *_: {"pid": 2**22 + 1, "replicas": {}})

    def refuse(timeout_s: float) -> None:
        raise RuntimeError("Serve is stuck")

    monkeypatch.setattr("weiml.serving.app._stop_serve", refuse)
    endpoint = Endpoint(feed.config(), "hub", _Owned(ray=True, serve=True))
    with pytest.raises(RuntimeError, match="stuck"):
        endpoint.shutdown()
    assert ended == ["hub", "ray"]


def test_another_port_than_the_running_serves_is_refused(endpoint: Endpoint, feed: Any) -> None:
    with pytest.raises(
        ClusterError, match=f"Serve already runs in this Ray on port {endpoint.config.port}"
    ):
        deploy(feed.config(port=1 if endpoint.config.port != 1 else 2))


def test_missing_folders_are_said_before_anything_starts(feed: Any) -> None:
    with pytest.raises(ConfigError, match=r"models.lr = '/nowhere' is not a folder"):
        deploy(feed.config(models={"lr": "/nowhere"}))
    with pytest.raises(ConfigError, match="view = '/nowhere' is not a folder"):
        deploy(feed.config(view="/nowhere"))


def test_replicas_outlive_the_hub_and_follow_a_new_one(endpoint: Endpoint, feed: Any) -> None:
    import ray

    from weiml.serving.app import start_hub

    before = pids(endpoint)
    ray.kill(endpoint._hub)

    def gone() -> bool:  # an actor dies a moment after it was killed
        try:
            endpoint.status()
        except ClusterError as error:
            return "parameter hub 'weiml-tests-hub' is gone" in str(error)
        return False

    until(gone, "an error that says that the hub is gone")
    with Client(endpoint.url, model="lr") as client:
        assert client.score(7, ITEMS, timestamp=NOW).outputs["score"].shape == (40,)
        endpoint._hub = start_hub(endpoint.config)
        delta = delta_for(feed, "lr", 60_001, 0.1)
        sequence = endpoint.publish({"lr": delta})
        assert sequence == 1
        until(lambda: len(pids(endpoint)) == 2, "both replicas find the new hub")
        endpoint.wait_for(sequence)
        # What came through the old hub is forgotten: snapshot plus the new hub's updates.
        local = Servable.load(feed.models, feed.view)
        local.apply_delta("lr", delta)
        expected = local.score("lr", 7, [1, 2], NOW).scores

        def check(result: Any) -> None:
            np.testing.assert_allclose(result.outputs["score"], expected, atol=1e-6)
            assert result.model_version.endswith(".60001")

        answering(client, 2, check)
    assert pids(endpoint) == before
